from ..peers import HOST, Peer, Place, absent, first_line, system_binary


def haproxy() -> Peer:
    binary = system_binary("haproxy")
    if not binary:
        return absent("haproxy", "apt-get install haproxy, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        # `observe` needs `check`: a TCP connect to the origin every two seconds.
        text = f"""
global
    nbthread 1
    maxconn {place.idle_connections + 1000}
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-server-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
frontend downstream
    bind 127.0.0.1:{place.port} backlog 4096{downstream(place)}
    default_backend upstream
backend upstream
    server origin 127.0.0.1:{place.origin} check no-check-ssl inter 2s observe layer7 error-limit 10 on-error mark-down{upstream(place)}
"""
        return [binary, "-db", "-q", "-f", place.write("haproxy.cfg", text)]

    return Peer("haproxy", command, version=first_line([binary, "-v"], r"version (\S+?)[-\s]"))


def downstream(place: Place) -> str:
    leg = place.downstream
    if not leg.secure:
        return " proto h2" if leg.http2 else ""
    text = f" ssl crt {place.certificates.server.both} alpn {'h2' if leg.http2 else 'http/1.1'}"
    return text + (f" ca-file {place.certificates.authority} verify required" if leg.mutual else "")


def upstream(place: Place) -> str:
    leg = place.upstream
    # Told so, it puts streams on a connection whose handshake is under way; else the first 512 would make as many connections.
    text = " proto h2" if leg.http2 else ""
    if leg.secure:
        text += f" ssl verify required ca-file {place.certificates.authority} sni str({HOST}) alpn {'h2' if leg.http2 else 'http/1.1'}"
    return text + (f" crt {place.certificates.client.both}" if leg.mutual else "")
