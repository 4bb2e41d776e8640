import Base
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// TLS towards endpoints: whom we believe, what we show, and what happens otherwise.
@Suite struct TLSUpstreamTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// A plaintext listener before endpoints that are called with TLS. Its access log is `log` in `folder`.
    private func withProxy(
        to ports: [UInt16], _ tls: UpstreamTLS, folder: TemporaryFolder? = nil, cluster: @escaping (inout Cluster) -> Void = { _ in },
        body: (Proxy) throws -> Void
    ) throws {
        try Integration.withProxy(
            { port, admin in
                Config.http(
                    listen: port, to: ports, admin: admin, process: { $0.workers = 1 },
                    manager: { manager in
                        guard let folder else { return }
                        let line = "%RESPONSE_CODE%|%RESPONSE_FLAGS%|%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"
                        manager.accessLogs = [AccessLog(path: folder.file("log"), format: .text(line))]
                    }, cluster: cluster
                ).calling(tls)
            }, body)
    }

    // MARK: Whom we believe

    @Test(
        "an endpoint of the mesh is called by TLS of either version, with its name and our certificate",
        arguments: [TLSSettings.Version.v12, .v13])
    func served(version: TLSSettings.Version) throws {
        var settings = certificates.endpoint(asks: true)
        settings.versions = version...version
        let origin = try Origin.https(settings) { request, tls in
            ok("\(tls.serverName ?? "no name") \(tls.agreedProtocol ?? "none") \(tls.peerSubject ?? "nobody") \(request.has("host", "a"))")
        }
        let tls = certificates.upstream(
            names: [MeshCertificates.serverURI], pair: certificates.client, sni: MeshCertificates.serverName)
        try withProxy(to: [origin.port], tls) { (proxy) throws in
            let caller = try proxy.connect()
            for _ in 0..<3 {
                let answer = try caller.exchange(Self.request)
                #expect(answer.bodyText == "\(MeshCertificates.serverName) http/1.1 CN=client,O=Mesh\\, Inc. true", "\(answer.bodyText)")
            }
            try proxy.wait(for: "ssl.handshake", 1)
        }
        #expect(origin.connections.count == 1)
    }

    @Test("an endpoint that is not who it should be gets no request; the caller gets 503 UF, and the log says why")
    func refused() throws {
        let mesh = certificates.mesh
        let expired = try mesh.issue("expired-server", names: ["DNS:\(MeshCertificates.serverName)"], days: -20 ... -10)
        let early = try mesh.issue("early-server", names: ["DNS:\(MeshCertificates.serverName)"], days: 10...20)
        let rows: [(TLSSettings, UpstreamTLS, String)] = [
            (certificates.endpoint(certificates.strangerServer), certificates.upstream(), "unable to get local issuer certificate"),
            (certificates.endpoint(expired), certificates.upstream(), "expired"),
            (certificates.endpoint(early), certificates.upstream(), "not yet valid"),
            (certificates.endpoint(), certificates.upstream(names: ["other.mesh.local"]), MeshCertificates.serverName),
            (certificates.endpoint(), certificates.upstream(names: ["spiffe://mesh/other"]), MeshCertificates.serverURI),
            (certificates.endpoint(asks: true), certificates.upstream(), "refused us"),
            (certificates.endpoint(asks: true), certificates.upstream(pair: certificates.strangerClient), "refused us"),
            (certificates.endpoint(protocols: ["spdy/3"]), certificates.upstream(), "application protocol"),
            (TLSSettings(pair: certificates.server, versions: .v10 ... .v11), certificates.upstream(), "protocol version"),
        ]
        for (settings, tls, words) in rows {
            let folder = try TemporaryFolder()
            let requests = Counter()
            let origin = try Origin.https(settings) { _, _ in
                requests.add()
                return ok()
            }
            try withProxy(to: [origin.port], tls, folder: folder) { (proxy) throws in
                let answer = try proxy.exchange(Self.request)
                #expect(answer.status == 503, "\(words): \(answer.headText)")
                #expect(answer.bodyText.contains("TLS") || answer.bodyText.contains("closed"), "\(answer.bodyText)")
                try eventually("the log is written") { folder.text("log").hasSuffix("\n") }
            }
            let line = folder.text("log")
            #expect(line.hasPrefix("503|UF|TLS_error") || line.hasPrefix("503|UC|TLS_error"), "\(words): \(line)")
            #expect(line.contains(words), "\(words): \(line)")
            #expect(requests.value == 0, "\(words)")
        }
    }

    @Test("T14: what an endpoint sends in plaintext is never an answer, and the request never goes out in plaintext")
    func plaintextInstead() throws {
        for early in [ok("forged"), "", "\u{15}\u{3}\u{3}"] {
            let origin = try Origin { connection in
                try connection.send(early)
                _ = try connection.readToEnd()
            }
            try withProxy(to: [origin.port], certificates.upstream()) { (proxy) throws in
                let caller = try proxy.connect()
                try caller.send(Self.request)
                if early.isEmpty {
                    // Nothing comes from the endpoint: the connect timeout counts.
                    #expect(try caller.readResponse().status == 503)
                } else {
                    let answer = try caller.readResponse()
                    #expect(answer.status == 503 && !answer.bodyText.contains("forged"), "\(answer.headText)\(answer.bodyText)")
                }
            }
            #expect(!origin.receivedText.contains("GET"), "\(early): \(shown(origin.received))")
        }
    }

    @Test("without validation any certificate will do, and none of ours is shown unless asked for")
    func unvalidated() throws {
        let origin = try Origin.https(certificates.endpoint(certificates.strangerServer)) { _, tls in ok(tls.peerSubject ?? "nobody") }
        try withProxy(to: [origin.port], UpstreamTLS(validation: nil, certificate: nil, alpn: [])) { (proxy) throws in
            #expect(try proxy.exchange(Self.request).bodyText == "nobody")
        }
    }

    @Test("a server name that is an address is not sent (RFC 6066)")
    func addressIsNoName() throws {
        let origin = try Origin.https(certificates.endpoint()) { _, tls in ok(tls.serverName ?? "no name") }
        for (sni, expected) in [("127.0.0.1", "no name"), ("a.mesh.local", "a.mesh.local")] {
            try withProxy(to: [origin.port], certificates.upstream(sni: sni)) { (proxy) throws in
                #expect(try proxy.exchange(Self.request).bodyText == expected)
            }
        }
    }

    // MARK: enforce: false

    @Test("enforce: false calls in plaintext an endpoint that answers a ClientHello with something else; one that only closes is no proof")
    func unenforced() throws {
        let rows = [
            ("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 200), ("-ERR unknown command\r\n", 200),
            ("", 503),
        ]
        for (reply, status) in rows {
            let origin = try Origin { connection in
                while true {
                    let first = try connection.receive(within: .seconds(60))
                    guard !first.isEmpty else { return }
                    if first[0] == 22 { return try connection.send(reply) }
                    connection.unread(first)
                    guard try connection.readRequest() != nil else { return }
                    try connection.send(ok("plaintext"))
                }
            }
            try withProxy(to: [origin.port], certificates.upstream(isEnforced: false)) { (proxy) throws in
                for _ in 0..<3 {
                    let answer = try proxy.exchange(Self.request)
                    #expect(answer.status == status && (answer.bodyText == "plaintext") == (status == 200), "\(reply): \(answer.headText)")
                }
            }
            // Known for a while, so that not every connection begins with a failure.
            if status == 200 { #expect(origin.connections.count { $0.received.first == 22 } == 1) }
        }
    }

    @Test("enforce: false is no excuse for a certificate that is refused")
    func unenforcedIsNotUnverified() throws {
        let requests = Counter()
        let origin = try Origin.https(certificates.endpoint(certificates.strangerServer)) { _, _ in
            requests.add()
            return ok()
        }
        try withProxy(to: [origin.port], certificates.upstream(isEnforced: false)) { (proxy) throws in
            for _ in 0..<3 { #expect(try proxy.exchange(Self.request).status == 503) }
        }
        #expect(requests.value == 0)
    }

    @Test("enforce: true never falls back, also not after many tries")
    func enforced() throws {
        let origin = try Origin.answering(ok())
        try withProxy(to: [origin.port], certificates.upstream()) { (proxy) throws in
            for _ in 0..<5 { #expect(try proxy.exchange(Self.request).status == 503) }
        }
        #expect(!origin.receivedText.contains("GET"))
    }

    @Test("an endpoint that got plaintext while it might, gets none when the configuration begins to enforce TLS")
    func enforcedFromNowOn() throws {
        let origin = try Origin { connection in
            while true {
                let first = try connection.receive(within: .seconds(60))
                guard !first.isEmpty else { return }
                if first[0] == 22 { return try connection.send("no TLS here\r\n") }
                connection.unread(first)
                guard try connection.readRequest() != nil else { return }
                try connection.send(ok("plaintext"))
            }
        }
        try withProxy(to: [origin.port], certificates.upstream(isEnforced: false)) { (proxy) throws in
            let caller = try proxy.connect()
            #expect(try caller.exchange(Self.request).bodyText == "plaintext")
            var snapshot = try proxy.written()
            snapshot.clusters[0].tls?.isEnforced = true
            try proxy.apply(snapshot)
            for _ in 0..<3 { #expect(try caller.exchange(Self.request).status == 503) }
        }
    }

    // MARK: Health

    @Test("an endpoint that resets while our half of the handshake is under way has failed once", arguments: [["http/1.1"], ["h2"]])
    func resetInHandshake(protocols: [String]) throws {
        let settings = certificates.endpoint(protocols: protocols)
        let origin = try Origin { connection in
            let end = try TLSEnd(.server, settings)
            end.push(try connection.receive())
            _ = try end.shakeHands()
            try connection.send(end.pull())
            // Its flight is read, and what answers it finds nobody.
            connection.reset()
        }
        for kind in protocols == ["h2"] ? [UpstreamProtocol.http2, .auto] : [.http1, .auto] {
            let tls = certificates.upstream(alpn: protocols)
            try withProxy(to: [origin.port], tls, cluster: { $0.upstreamProtocol = kind }) { (proxy) throws in
                for _ in 0..<10 { #expect(try proxy.exchange(Self.request).status == 503) }
                try proxy.wait(for: "cluster.origin.upstream_cx_active", 0)
                // Where the reset comes a moment later, the handshake is done.
                let opened = try proxy.count("cluster.origin.ssl.handshake")
                try proxy.wait(for: "cluster.origin.upstream_cx_connect_fail", 10 - opened)
            }
        }
    }

    @Test("endpoints whose handshakes fail are ejected like those that refuse the connection")
    func ejection() throws {
        let good = try Origin.https(certificates.endpoint()) { _, _ in ok("good") }
        let bad = try Origin.https(certificates.endpoint(certificates.strangerServer)) { _, _ in ok("bad") }
        let rules = OutlierDetection(
            consecutive5xx: 3, interval: .seconds(60), baseEjectionTime: .seconds(600), maxEjectionTime: .seconds(600),
            maxEjectionPercent: 50)
        try withProxy(to: [good.port, bad.port], certificates.upstream(), cluster: { $0.outlierDetection = rules }) { (proxy) throws in
            var refused = 0
            try eventually("the bad one is out") {
                let status = try proxy.exchange(Self.request).status
                if status == 503 { refused += 1 }
                return try proxy.page("/clusters").contains("failed_outlier_check")
            }
            #expect(refused == 3)
            for _ in 0..<10 { #expect(try proxy.exchange(Self.request).bodyText == "good") }
        }
    }

    @Test("the connect timeout spans the handshake: an endpoint that is slow in TLS is given up")
    func slowHandshake() throws {
        let origin = try Origin { connection in
            _ = try connection.receive()
            connection.stall()
        }
        try withProxy(to: [origin.port], certificates.upstream(), cluster: { $0.connectTimeout = .milliseconds(400) }) { (proxy) throws in
            let start = ContinuousClock.now
            let answer = try proxy.exchange(Self.request)
            #expect(answer.status == 503)
            let time = ContinuousClock.now - start
            #expect(time >= .milliseconds(390) && time < .seconds(5), "\(time)")
        }
    }

    // MARK: Connections

    @Test("a new connection to an endpoint resumes the session of an earlier one", arguments: [TLSSettings.Version.v12, .v13])
    func resumption(version: TLSSettings.Version) throws {
        var settings = certificates.endpoint()
        settings.versions = version...version
        let endpoint = settings
        // One request a connection. All ends share what tickets are sealed with only if they share a context: HAProxy does.
        let origin = try Origin.answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        let peer = try HAProxyPeer(tls: endpoint, protocols: "http/1.1", to: origin.port)
        try withProxy(to: [peer.port], certificates.upstream(names: [MeshCertificates.serverName])) { (proxy) throws in
            for _ in 0..<6 { #expect(try proxy.exchange(Self.request).bodyText == "ok") }
            try proxy.wait(for: "ssl.handshake", 6)
            #expect(try proxy.count("ssl.session_reused") >= 4)
        }
    }

    @Test("a body that ends with the connection is whole behind close_notify, and cut without it")
    func bodyUntilClose() throws {
        for isClean in [true, false] {
            let settings = certificates.endpoint()
            let origin = try Origin { connection in
                try connection.startTLS(.server, settings)
                _ = try connection.readRequest()
                try connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe whole text")
                if isClean { connection.finishSending() }
            }
            try withProxy(to: [origin.port], certificates.upstream()) { (proxy) throws in
                let caller = try proxy.connect()
                try caller.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                let text = String(decoding: try caller.readToEnd().bytes, as: UTF8.self)
                #expect(text.hasSuffix("\r\n0\r\n\r\n") == isClean, "close_notify \(isClean): \(text)")
            }
        }
    }

    @Test("20 MB go both ways unchanged through TLS on both sides")
    func bodies() throws {
        let size = 20 << 20
        let settings = certificates.endpoint()
        let origin = try Origin(records: false) { connection in
            try connection.startTLS(.server, settings)
            _ = try connection.read(until: "\r\n\r\n")
            let upload = try connection.readPattern(size)
            guard upload.isIntact, upload.count == size else { return }
            try connection.send("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            try connection.sendPattern(size)
        }
        try Integration.withProxy({
            Config.http(listen: $0, to: [origin.port], admin: $1).listening(certificates.downstream()).calling(certificates.upstream())
        }) { (proxy) throws in
            let caller = try RawConnection.tls(to: proxy.port, certificates.caller())
            try caller.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \(size)\r\n\r\n")
            try caller.sendPattern(size)
            let head = String(decoding: try caller.read(until: "\r\n\r\n"), as: UTF8.self)
            #expect(head.hasPrefix("HTTP/1.1 200"), "\(head)")
            #expect(try caller.readPattern(size) == (size, true))
        }
    }
}
