# What happens to the package in a root directory of its own. Run there by `sh -eux`; the test reads what it prints.

export DEBIAN_FRONTEND=noninteractive LC_ALL=C
everything() { find / -xdev \( -path /proc -o -path /dev -o -path /tmp -o -path /var/lib/dpkg -o -path /var/log/dpkg.log \) -prune -o -print | sort; }
until_done() { for _ in $(seq 300); do if "$@"; then return; fi; sleep 0.1; done; echo "gave up: $*"; exit 1; }
everything >/tmp/before

# Installed, by dpkg's own checks.
dpkg --install /everup.deb
test "$(dpkg-query -W -f '${db:Status-Status}' everup)" = installed
dpkg --verify everup
grep '^everup:' /etc/passwd
everup --version
everup check /etc/everup/everup.toml
bash -c '. /usr/share/bash-completion/completions/everup; complete -p everup'
test "$(stat -c %U:%a /etc/everup/everup.toml)" = root:644

# Used as the unit file has it: another user, and the right to bind low ports.
mkdir -m 700 /var/lib/everup
chown everup:everup /var/lib/everup
sed -i 's/127.0.0.1:8080/127.0.0.1:80/' /etc/everup/everup.toml
EVERUP_STATE=/var/lib/everup setpriv --reuid=everup --regid=everup --init-groups --no-new-privs \
    --inh-caps=+net_bind_service --ambient-caps=+net_bind_service everup run /etc/everup/everup.toml >/tmp/said 2>&1 &
keeper=$!
until_done everup status
everup status | grep 127.0.0.1:80
worker=$(cat /proc/$keeper/task/$keeper/children)
grep -P '^CapEff:\t0000000000000400$' /proc/$keeper/status
grep -P '^CapEff:\t0000000000000000$' /proc/${worker% }/status
grep -P '^CapAmb:\t0000000000000000$' /proc/${worker% }/status

# An upgrade keeps what was changed, and the running everup.
dpkg --install /everup.deb
grep 127.0.0.1:80 /etc/everup/everup.toml
kill -0 $keeper
everup status

kill -TERM $keeper
wait $keeper
cat /tmp/said

# Removed: configuration and state stay. Purged: nothing does, but for the user.
dpkg --remove everup
test -e /etc/everup/everup.toml
test -d /var/lib/everup
test ! -e /usr/bin/everup
dpkg --purge everup
everything >/tmp/after
# Written by whoever makes a user.
sed -i -E '\#^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$#d; \#^/etc/\.pwd\.lock$#d' /tmp/before /tmp/after
diff /tmp/before /tmp/after
echo the story is over
