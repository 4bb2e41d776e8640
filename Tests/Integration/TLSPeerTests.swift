import ProxyConfig
import TestSupport
import Testing

/// TLS with the programs that people use: curl and openssl as callers, nginx and HAProxy as endpoints.
@Suite struct TLSPeerTests {
    private let certificates = MeshCertificates.shared

    /// Calls the proxy by the server's name. The output is the body, the version of HTTP, and the status.
    private func curl(_ proxy: Proxy, _ arguments: [String], trust: TestCertificates.Authority? = nil) throws -> Program.Result {
        try Program.run(
            "curl",
            ["-sS", "--max-time", "20", "--connect-to", "\(MeshCertificates.serverName):443:127.0.0.1:\(proxy.port)"]
                + ["-w", " %{http_version} %{http_code}", "--cacert", (trust ?? certificates.mesh).certificate] + arguments
                + ["https://\(MeshCertificates.serverName)/"])
    }

    /// What the shell command says goes in; "true" is nothing, and an end.
    private func openssl(
        _ proxy: Proxy, _ arguments: [String], pair: TestCertificates.Pair? = nil, trust: TestCertificates.Authority? = nil,
        input: String = "true"
    ) throws -> Program.Result {
        try Program.run(
            "sh",
            ["-c", "(\(input)) | exec openssl s_client \"$@\"", "sh", "-connect", "127.0.0.1:\(proxy.port)"]
                + ["-CAfile", (trust ?? certificates.mesh).certificate, "-verify_return_error", "-servername", MeshCertificates.serverName]
                + (pair.map { ["-cert", $0.chain, "-key", $0.key] } ?? []) + arguments)
    }

    // MARK: Callers

    @Test("curl: HTTP/1.1 and HTTP/2 over TLS 1.2 and 1.3, with a client certificate and without")
    func curl() throws {
        let origin = try Origin.answering(ok("hello"))
        for clients in [nil, []] as [[String]?] {
            try withProxy({
                Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(clients: clients))
            }) { (proxy) throws in
                let own = ["--cert", certificates.client.chain, "--key", certificates.client.key]
                for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
                    for tls in ["1.2", "1.3"] {
                        let result = try curl(proxy, [version, "--tlsv\(tls)", "--tls-max", tls] + own)
                        #expect(result.output == "hello \(shown) 200", "\(version) \(tls): \(result)")
                    }
                }
                let distrustful = try curl(proxy, own, trust: certificates.stranger)
                #expect(distrustful.status == 60, "\(distrustful)")
                let anonymous = try curl(proxy, [])
                // With TLS 1.3 the refusal comes when curl reads, 56; earlier it would be 35.
                #expect(clients == nil ? anonymous.output == "hello 2 200" : [35, 56].contains(anonymous.status), "\(anonymous)")
                let old = try curl(proxy, own + ["--tls-max", "1.1"])
                #expect(old.status == 35, "\(old)")
            }
        }
    }

    @Test("curl: on a PERMISSIVE port HTTP/1.1, h2c and both over TLS")
    func curlPermissive() throws {
        let origin = try Origin.answering(ok("hello"))
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(), .permissive)
        }) { (proxy) throws in
            for (arguments, shown) in [(["--http1.1"], "1.1"), (["--http2-prior-knowledge"], "2")] {
                let plain = try Program.run(
                    "curl",
                    ["-sS", "--max-time", "20", "-w", " %{http_version} %{http_code}"] + arguments + ["http://127.0.0.1:\(proxy.port)/"])
                #expect(plain.output == "hello \(shown) 200", "\(arguments): \(plain)")
            }
            for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
                let secure = try curl(proxy, [version])
                #expect(secure.output == "hello \(shown) 200", "\(version): \(secure)")
            }
        }
    }

    @Test("openssl s_client: versions, authorities, compression, renegotiation, resumption")
    func openssl() throws {
        let origin = try Origin.answering(ok())
        try withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream(clients: []))
        }) { (proxy) throws in
            let client = certificates.client
            for version in ["-tls1_2", "-tls1_3"] {
                let good = try openssl(proxy, [version, "-alpn", "h2,http/1.1"], pair: client)
                #expect(good.status == 0 && good.output.contains("Verify return code: 0 (ok)"), "\(good)")
                #expect(good.output.contains("ALPN protocol: h2") && good.output.contains("Compression: NONE"), "\(good.output)")
                let session = proxy.folder.file("session\(version)")
                // With TLS 1.3 the ticket comes behind the handshake: wait for it.
                _ = try openssl(proxy, [version, "-sess_out", session], pair: client, input: "sleep 1")
                let again = try openssl(proxy, [version, "-sess_in", session], pair: client)
                #expect(again.output.contains("Reused, TLS"), "\(again)")
            }
            let rows: [(Program.Result, String)] = [
                (try openssl(proxy, ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], pair: client), "protocol version"),
                (try openssl(proxy, ["-tls1_2"], pair: certificates.strangerClient), "unknown ca"),
                (try openssl(proxy, ["-tls1_2"]), "handshake failure"),
                (try openssl(proxy, [], pair: client, trust: certificates.stranger), "verify error"),
                (try openssl(proxy, ["-alpn", "spdy/3"], pair: client), "no application protocol"),
            ]
            for (result, words) in rows { #expect(result.status != 0 && result.errors.contains(words), "\(words): \(result)") }
            // A line that begins with R asks for another handshake.
            let again = try openssl(proxy, ["-tls1_2"], pair: client, input: "echo R; sleep 1")
            #expect(again.errors.contains("no renegotiation"), "\(again)")
        }
    }

    // MARK: Endpoints

    @Test("nginx and HAProxy as endpoints: HTTP/1.1 and HTTP/2 over TLS, mutual, with our name for them")
    func endpoints() throws {
        let origin = try Origin.answering(ok("behind"))
        let settings = certificates.endpoint(asks: true)
        let peers: [any TLSPeer] = [
            try HAProxyPeer(tls: settings, protocols: "h2,http/1.1", to: origin.port), try NginxPeer(tls: settings),
        ]
        for peer in peers {
            for (protocols, kind) in [(["http/1.1"], UpstreamProtocol.http1), (["h2"], .http2), (["h2", "http/1.1"], .auto)] {
                let tls = certificates.upstream(
                    names: [MeshCertificates.serverURI], pair: certificates.client, sni: MeshCertificates.serverName, alpn: protocols)
                try withProxy({
                    Config.http(listen: $0, to: [peer.port], admin: $1, cluster: { $0.upstreamProtocol = kind }).calling(tls)
                }) { (proxy) throws in
                    let caller = try proxy.connect()
                    for _ in 0..<3 {
                        let answer = try caller.exchange("GET /file HTTP/1.1\r\nHost: a\r\n\r\n")
                        #expect(answer.status == 200 && answer.bodyText == peer.answer, "\(kind): \(answer.headText)\(answer.bodyText)")
                        let expected = kind == .http1 ? "HTTP/1.1" : "HTTP/2.0"
                        #expect(answer.value("x-seen") == "\(expected)/\(MeshCertificates.serverName)", "\(answer.headText)")
                    }
                }
            }
        }
    }

    @Test("HAProxy as caller: HTTP/2 over mutual TLS")
    func haproxyCalls() throws {
        let origin = try Origin.http { request in Array(ok(request.value("x-forwarded-client-cert") ?? "nobody").utf8) }
        try withProxy({
            Config.http(
                listen: $0, to: [origin.port], admin: $1,
                manager: { $0.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails(subject: false, dns: false)) }
            ).listening(certificates.downstream(clients: []))
        }) { (proxy) throws in
            let peer = try HAProxyPeer(calling: proxy.port, with: certificates)
            let caller = try RawConnection(to: peer.port)
            for _ in 0..<5 {
                let answer = try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(answer.status == 200 && answer.bodyText.contains("URI=\(MeshCertificates.clientURI)"), "\(answer)")
            }
            #expect(try proxy.count("downstream_cx_http2_total") >= 1)
        }
    }
}
