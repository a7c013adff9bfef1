//! The configurations: the same work for each proxy, each as its own manual advises. Two origins in turns,
//! keep-alive on both sides, a route by host, X-Forwarded-For added.

use std::net::SocketAddr;
use std::path::Path;

use super::Kind;
use crate::cell::HOST;

pub(super) fn text(
    kind: Kind,
    http: SocketAddr,
    tcp: SocketAddr,
    origins: &[SocketAddr; 2],
    directory: &Path,
) -> String {
    match kind {
        Kind::Haproxy => haproxy(http, tcp, origins, "", "", ""),
        Kind::HaproxyBulk => {
            haproxy(http, tcp, origins, "tune.bufsize 65536", "option splice-response", "option splice-auto")
        }
        Kind::Nginx => nginx(http, tcp, origins, directory),
        Kind::Everup => everup(http, tcp, origins, directory),
    }
}

fn haproxy(
    http: SocketAddr,
    tcp: SocketAddr,
    [a, b]: &[SocketAddr; 2],
    global_option: &str,
    http_option: &str,
    tcp_option: &str,
) -> String {
    format!(
        "global
  nbthread 1
  maxconn 4096
  {global_option}
defaults
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend http
  mode http
  option http-keep-alive
  {http_option}
  bind {http}
  acl shop hdr(host) -i {HOST}
  http-request set-header X-Forwarded-For %[src]
  use_backend http if shop
backend http
  mode http
  http-reuse always
  balance roundrobin
  server a {a}
  server b {b}
frontend tcp
  mode tcp
  {tcp_option}
  bind {tcp}
  default_backend tcp
backend tcp
  mode tcp
  balance roundrobin
  server a {a}
  server b {b}
"
    )
}

fn nginx(http: SocketAddr, tcp: SocketAddr, [a, b]: &[SocketAddr; 2], directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  upstream shop {{ server {a}; server {b}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {http};
    server_name {HOST};
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_buffers 8 16k;
      proxy_busy_buffers_size 32k;
    }}
  }}
}}
stream {{
  upstream shop {{ server {a}; server {b}; }}
  server {{ listen {tcp}; proxy_pass shop; proxy_buffer_size 16k; tcp_nodelay on; }}
}}
"
    )
}

fn everup(http: SocketAddr, tcp: SocketAddr, [a, b]: &[SocketAddr; 2], directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "[node]
threads = 1
state = \"{directory}/state\"

[[listener]]
bind = [\"{http}\"]

[[listener.route]]
host = \"{HOST}\"
service = \"shop\"

[[listener]]
bind = [\"{tcp}\"]
protocol = \"tcp\"
service = \"shop\"

[service.shop]
balance = \"round-robin\"
instances = [\"{a}\", \"{b}\"]
"
    )
}
