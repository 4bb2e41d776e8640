from ..peers import HOST, Peer, Place, absent, descriptor_limit, first_line, system_binary


def nginx() -> Peer:
    binary = system_binary("nginx")
    if not binary:
        return absent("nginx", "apt-get install nginx-light, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        # Limits on requests per connection are lifted (1,000 by default), or connections would end in the middle of a run.
        # Of what was tried, this is its best in every scenario: 32 KiB buffers, responses buffered up to 64 KiB (8 calls instead of 10)
        # and passed on at once at 1 MiB, request bodies passed on at once, heads with a small body taken in one read. As many idle
        # upstream connections as there can be requests, or most would be closed after one.
        listen = " ".join(["ssl"] * place.downstream.secure + ["http2"] * place.downstream.http2)
        scheme = "https" if place.upstream.secure else "http"
        text = f"""
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile {descriptor_limit()};
            pid {place.directory}/nginx.pid;
            error_log stderr crit;
            events {{ worker_connections {place.idle_connections + 2000}; }}
            http {{
                access_log off;
                server_tokens off;
                tcp_nodelay on;
                keepalive_timeout 300s;
                keepalive_requests 1000000000;
                client_body_temp_path {place.directory}/body;
                proxy_temp_path {place.directory}/proxy;
                fastcgi_temp_path {place.directory}/fastcgi;
                uwsgi_temp_path {place.directory}/uwsgi;
                scgi_temp_path {place.directory}/scgi;
                client_header_buffer_size 32k;
                client_body_buffer_size 32k;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_request_buffering off;
                proxy_buffer_size 32k;
                proxy_buffers 8 32k;
                proxy_max_temp_file_size 0;
                upstream origin {{
                    server 127.0.0.1:{place.origin};
                    keepalive 1024;
                    keepalive_timeout 300s;
                    keepalive_requests 1000000000;
                }}
                {upstream(place)}
                server {{
                    listen 127.0.0.1:{place.port} backlog=4096 {listen};
                    {downstream(place)}
                    location / {{
                        proxy_pass {scheme}://origin;
                    }}
                    location = /1m {{
                        proxy_pass {scheme}://origin;
                        proxy_buffering off;
                    }}
                }}
            }}
            """
        return [binary, "-e", "stderr", "-p", str(place.directory), "-c", place.write("nginx.conf", text)]

    return Peer(
        "nginx", command, version=first_line([binary, "-v"], r"nginx/(\S+)"),
        speaks=lambda _, upstream: not upstream.http2,
    )  # fmt: skip


def downstream(place: Place) -> str:
    if not place.downstream.secure:
        return ""
    server = place.certificates.server
    text = f"ssl_certificate {server.chain}; ssl_certificate_key {server.key}; ssl_protocols TLSv1.3;"
    if place.downstream.mutual:
        text += f" ssl_client_certificate {place.certificates.authority}; ssl_verify_client on;"
    return text


def upstream(place: Place) -> str:
    if not place.upstream.secure:
        return ""
    text = (
        f"proxy_ssl_protocols TLSv1.3; proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_verify on;"
        f" proxy_ssl_trusted_certificate {place.certificates.authority};"
    )
    if place.upstream.mutual:
        client = place.certificates.client
        text += f" proxy_ssl_certificate {client.chain}; proxy_ssl_certificate_key {client.key};"
    return text
