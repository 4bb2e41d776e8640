from ..peers import HOST, Peer, Place, absent, first_line, system_binary


def nghttpx() -> Peer:
    binary = system_binary("nghttpx")
    if not binary:
        return absent("nghttpx", "apt-get install nghttp2-proxy, or Benchmarks/setup")

    def command(place: Place) -> list[str]:
        files = place.certificates
        frontend = f"127.0.0.1,{place.port}" + ("" if place.downstream.secure else ";no-tls")
        backend = f"127.0.0.1,{place.origin};;proto={'h2' if place.upstream.http2 else 'http/1.1'}"
        if place.upstream.secure:
            backend += f";tls;sni={HOST}"
        # One thread for all, nothing added to messages, idle upstream connections kept. It writes no access log unless told to.
        options = [
            "--conf=/dev/null", "--single-process", "--single-thread", "--workers=1", "--log-level=ERROR", "--errorlog-file=/dev/stderr",
            f"--frontend={frontend}", f"--backend={backend}", "--backlog=4096",
            f"--worker-frontend-connections={place.idle_connections + 1000}",
            "--no-via", "--no-server-rewrite", "--no-location-rewrite", "--no-add-x-forwarded-proto", "--no-ocsp",
            "--frontend-keep-alive-timeout=300s", "--backend-keep-alive-timeout=300s", "--tls-min-proto-version=TLSv1.3",
        ]  # fmt: skip
        if place.upstream.secure:
            options.append(f"--cacert={files.authority}")
        if place.upstream.mutual:
            options += [f"--client-cert-file={files.client.chain}", f"--client-private-key-file={files.client.key}"]
        if place.downstream.mutual:
            options += ["--verify-client", f"--verify-client-cacert={files.authority}"]
        identity = [files.server.key, files.server.chain] if place.downstream.secure else []
        return [binary, *options, *identity]

    return Peer("nghttpx", command, version=first_line([binary, "--version"], r"nghttp2/(\S+)"))
