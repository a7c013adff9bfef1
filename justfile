# The parts of `./test`, one at a time. `just --list` shows them; everything works without just, too.

# Everything that must pass before a commit.
test:
    ./test

# Everything except the whole-binary tests.
fast:
    ./test --fast

# Format the sources.
format:
    cargo fmt --all

# Formatting, lints and the rules of the house.
lint:
    cargo fmt --all --check
    cargo xtask tidy
    cargo clippy --workspace --all-targets -- -D warnings

# Unit, scenario and simulation tests.
unit:
    cargo test --workspace --exclude everup-e2e

# The whole binary, attacked.
e2e:
    cargo build --package everup
    cargo test --package everup-e2e

# Minutes of faults under load: `just drills crash`, `just drills reload --peers`.
drills +WORDS:
    cargo xtask drills {{WORDS}}

# everup beside HAProxy and nginx.
bench *ARGUMENTS:
    cargo run --release --package everup-bench -- {{ARGUMENTS}}

# Look for inputs that crash a decoder (needs cargo-fuzz and a nightly toolchain).
fuzz TARGET:
    cargo +nightly fuzz run --fuzz-dir fuzz {{TARGET}}

# A Debian package and a tarball, with their checksums.
package:
    cargo xtask package

# Write docs/reference from the settings' declarations.
reference:
    cargo run --quiet -- reference --markdown > docs/reference/settings.md
