import Foundation
import ProxyConfig
import Synchronization
import TestSupport
import Testing

/// T13 and T2: whose certificates open a connection, and what a request then says of its caller.
@Suite struct TLSTrustTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    private func withProxy(
        _ tls: DownstreamTLS, to origin: Origin, _ mode: Snapshot.TLSMode = .strict,
        manager: @escaping (inout HTTPConnectionManager) -> Void = { _ in }, body: (Proxy) throws -> Void
    ) throws {
        try Integration.withProxy(
            { Config.http(listen: $0, to: [origin.port], admin: $1, manager: manager).listening(tls, mode) }, body)
    }

    /// The answer to a request by this certificate, or why there is none.
    private func outcome(
        _ proxy: Proxy, _ pair: TestCertificates.Pair?, _ version: TLSSettings.Version = .v13, resume: TLSTicket? = nil
    ) -> Result<RawConnection, any Error> {
        Result {
            var settings = certificates.caller(pair)
            settings.versions = version...version
            let caller = try RawConnection.tls(to: proxy.port, settings, resume: resume)
            // With TLS 1.3 the refusal comes behind the handshake.
            let answer = try caller.exchange(Self.request)
            guard answer.status == 200 else { throw TestFailure(answer.headText) }
            return caller
        }
    }

    private func alert(_ outcome: Result<RawConnection, any Error>) -> Int? {
        guard case .failure(let error) = outcome else { return nil }
        return (error as? TLSFailure)?.alert
    }

    // MARK: Who gets in

    @Test("only who shows a certificate of the mesh gets in; the log says why another did not", arguments: [TLSSettings.Version.v12, .v13])
    func clientCertificates(version: TLSSettings.Version) throws {
        let mesh = certificates.mesh
        let chained = try mesh.authority("branch-\(version.rawValue)").issue("leaf-\(version.rawValue)", names: ["DNS:leaf"])
        let rows: [(TestCertificates.Pair?, Int, String)] = [
            (nil, version == .v13 ? TLSFailure.Alert.certificateRequired : TLSFailure.Alert.handshakeFailure, "showed none"),
            (certificates.strangerClient, TLSFailure.Alert.unknownAuthority, "refused"),
            (
                try mesh.issue("expired-\(version.rawValue)", names: ["DNS:a"], days: -20 ... -10), TLSFailure.Alert.certificateExpired,
                "expired"
            ),
            (
                try mesh.issue("early-\(version.rawValue)", names: ["DNS:a"], days: 10...20), TLSFailure.Alert.badCertificate,
                "not yet valid"
            ),
        ]
        let origin = try Origin.answering(ok())
        try withProxy(certificates.downstream(clients: []), to: origin) { (proxy) throws in
            for (pair, expected, words) in rows {
                let outcome = outcome(proxy, pair, version)
                #expect(alert(outcome) == expected, "\(words): \(outcome)")
                try proxy.waitForLog(words)
            }
            #expect(origin.connections.isEmpty)
            try proxy.wait(for: "ssl.fail_verify_error", rows.count)
            try proxy.wait(for: "ssl.connection_error", rows.count)
            for pair in [certificates.client, certificates.server, chained] { _ = try outcome(proxy, pair, version).get() }
        }
    }

    @Test("a name that is asked for must be in the certificate exactly, as DNS or as URI")
    func names() throws {
        let mesh = certificates.mesh
        let trick = Array("client.mesh.local\0.evil.example".utf8)
        let rows: [([String], TestCertificates.Pair, Bool)] = [
            ([MeshCertificates.clientURI], certificates.client, true),
            (["client.mesh.local"], certificates.client, true),
            (["other", MeshCertificates.clientURI], certificates.client, true),
            ([MeshCertificates.clientURI], certificates.server, false),
            (["client.mesh"], certificates.client, false),
            (["mesh.local"], certificates.client, false),
            (["spiffe://mesh/clien"], certificates.client, false),
            // No name is taken from the subject.
            (["client"], certificates.client, false),
            (["CN=client"], certificates.client, false),
            // To some C programs this dNSName is its first half.
            (
                ["client.mesh.local"],
                try mesh.issue("nul", encodedNames: [0x30, UInt8(trick.count + 2), 0x82, UInt8(trick.count)] + trick), false
            ),
            // A wildcard stands for one whole label.
            (["client.mesh.local"], try mesh.issue("wild", names: ["DNS:*.mesh.local"]), true),
            (["client.mesh.local"], try mesh.issue("wilder", names: ["DNS:*.local"]), false),
        ]
        let origin = try Origin.answering(ok())
        for (names, pair, isLetIn) in rows {
            try withProxy(certificates.downstream(clients: names), to: origin) { (proxy) throws in
                let outcome = outcome(proxy, pair)
                #expect(((try? outcome.get()) != nil) == isLetIn, "\(names) by \(pair.chain): \(outcome)")
                if !isLetIn { try proxy.wait(for: "ssl.fail_verify_error", 1) }
            }
        }
    }

    // MARK: Resumption

    @Test("who comes again resumes and is known as before", arguments: [TLSSettings.Version.v12, .v13])
    func resumption(version: TLSSettings.Version) throws {
        let origin = try Origin.answering(ok())
        try withProxy(
            certificates.downstream(clients: [MeshCertificates.clientURI]), to: origin,
            manager: { $0.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails()) }
        ) { (proxy) throws in
            var ticket = try #require(try outcome(proxy, certificates.client, version).get().tls?.ticket)
            // Whichever worker takes the connection.
            for _ in 0..<8 {
                let again = try outcome(proxy, certificates.client, version, resume: ticket).get()
                #expect(again.tls?.wasResumed == true)
                if version == .v13 { ticket = try #require(again.tls?.ticket) }
            }
            try proxy.wait(for: "ssl.session_reused", 8)
        }
        #expect(origin.receivedText.components(separatedBy: "URI=\(MeshCertificates.clientURI)").count == 10)
    }

    @Test(
        "a ticket opens no other door: not with another trust, other names, another certificate, nor another listener's",
        arguments: [TLSSettings.Version.v12, .v13])
    func boundResumption(version: TLSSettings.Version) throws {
        let origin = try Origin.answering(ok())
        let own = certificates.downstream(clients: [MeshCertificates.clientURI])
        var trustsStranger = own
        trustsStranger.validation?.trust = .file(certificates.stranger.certificate)
        let otherPair = try certificates.mesh.issue("other-server-\(version.rawValue)", names: ["DNS:\(MeshCertificates.serverName)"])
        let others: [(DownstreamTLS, isLetIn: Bool)] = [
            (trustsStranger, false), (certificates.downstream(clients: ["spiffe://mesh/other"]), false),
            (certificates.downstream(otherPair, clients: [MeshCertificates.clientURI]), true),
        ]
        for (other, isLetIn) in others {
            try withProxy(own, to: origin) { (proxy) throws in
                let ticket = try #require(try outcome(proxy, certificates.client, version).get().tls?.ticket)
                try proxy.apply(Config.http(listen: proxy.port, to: [origin.port], admin: proxy.admin).listening(other))
                switch outcome(proxy, certificates.client, version, resume: ticket) {
                case .success(let caller): #expect(isLetIn && caller.tls?.wasResumed == false, "\(other)")
                case .failure(let error): #expect(!isLetIn, "\(other): \(error)")
                }
                try proxy.wait(for: "ssl.session_reused", 0)
            }
        }
        // Two listeners of one proxy; the second one trusts others.
        let second = try Ports.free()
        try Integration.withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [origin.port], admin: admin)
            snapshot.listeners = [Config.listener("second", second)]
            let listener = snapshot.listening(trustsStranger).listeners[0]
            snapshot.listeners = [Config.listener("first", port)]
            snapshot = snapshot.listening(own)
            snapshot.listeners.append(listener)
            return snapshot
        }) { (proxy) throws in
            let ticket = try #require(try outcome(proxy, certificates.client, version).get().tls?.ticket)
            var settings = certificates.caller(certificates.client)
            settings.versions = version...version
            #expect(throws: (any Error).self) {
                try RawConnection.tls(to: second, settings, resume: ticket).exchange(Self.request)
            }
        }
    }

    @Test("a ticket of one server name does not open the chain of another, which asks for a certificate")
    func resumptionBetweenNames() throws {
        let origin = try Origin.answering(ok())
        try Integration.withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [origin.port], admin: admin).listening(certificates.downstream())
            var closed = snapshot.listeners[0].filterChains[0]
            closed.name = "closed"
            closed.match.serverNames = ["closed.mesh.local"]
            closed.tls = certificates.downstream(clients: [])
            snapshot.listeners[0].filterChains.append(closed)
            return snapshot
        }) { (proxy) throws in
            for version in [TLSSettings.Version.v12, .v13] {
                var settings = certificates.caller()
                settings.versions = version...version
                let open = try RawConnection.tls(to: proxy.port, settings)
                #expect(try open.exchange(Self.request).status == 200)
                let ticket = try #require(open.tls?.ticket)
                settings.serverName = "closed.mesh.local"
                let other = settings
                #expect(throws: TLSFailure.self) {
                    try RawConnection.tls(to: proxy.port, other, resume: ticket).exchange(Self.request)
                }
                settings.pair = certificates.client
                #expect(try RawConnection.tls(to: proxy.port, settings).exchange(Self.request).status == 200)
            }
        }
    }

    // MARK: What a request says of its caller

    @Test("T2: x-forwarded-client-cert is what the certificate says, as Envoy writes it, and never what a caller writes")
    func forwardedCertificate() throws {
        let digest = Mutex<String?>(nil)
        let quoted = try certificates.mesh.issue(
            "quoted", names: ["URI:spiffe://mesh/q", "URI:https://second", "DNS:a", "DNS:b"], subject: "/O=Say \"hi\"; by=me/CN=quoted")
        let claims = "x-forwarded-client-cert: By=me;URI=spiffe://mesh/admin\r\nX-Forwarded-Client-Cert: Hash=1\r\n"
        let by = "By=\(MeshCertificates.serverURI);Hash=HASH"
        let rows: [(TestCertificates.Pair, ClientCertificateForwarding, String?)] = [
            (
                certificates.client, .sanitizeSet(ClientCertificateDetails()),
                "\(by);Subject=\"CN=client,O=Mesh\\, Inc.\";URI=\(MeshCertificates.clientURI);DNS=client.mesh.local"
            ),
            (certificates.client, .sanitizeSet(ClientCertificateDetails(subject: false, uri: false, dns: false)), by),
            (
                certificates.client, .sanitizeSet(ClientCertificateDetails(subject: false, uri: true, dns: false)),
                "\(by);URI=\(MeshCertificates.clientURI)"
            ),
            (
                quoted, .sanitizeSet(ClientCertificateDetails(subject: false)),
                "\(by);URI=spiffe://mesh/q;URI=https://second;DNS=a;DNS=b"
            ),
            (certificates.client, .sanitize, nil),
        ]
        for (pair, forwarding, expected) in rows {
            // The digest of what the caller shows, as an end of OpenSSL's sees it.
            let mirror = try Origin { connection in
                let end = try connection.startTLS(.server, certificates.endpoint(asks: true))
                digest.withLock { $0 = end.peerDigest }
            }
            _ = try? RawConnection.tls(to: mirror.port, certificates.caller(pair)).readToEnd()
            let origin = try Origin.http { request in
                Array(ok(request.values("x-forwarded-client-cert").joined(separator: " AND ")).utf8)
            }
            try withProxy(
                certificates.downstream(clients: []), to: origin, manager: { $0.forwardClientCertificate = forwarding }
            ) { (proxy) throws in
                let caller = try RawConnection.tls(to: proxy.port, certificates.caller(pair))
                for _ in 0..<2 {
                    let answer = try caller.exchange("GET / HTTP/1.1\r\nHost: a\r\n\(claims)\r\n")
                    let hash = try #require(digest.withLock { $0 })
                    #expect(answer.bodyText == expected?.replacing("HASH", with: hash) ?? "")
                }
            }
        }
    }

    @Test("T2: on a PERMISSIVE port plaintext callers have no certificate, whatever they say")
    func spoofedInPlaintext() throws {
        let origin = try Origin.http { request in Array(ok(request.value("x-forwarded-client-cert") ?? "nothing").utf8) }
        try withProxy(
            certificates.downstream(clients: []), to: origin, .permissive,
            manager: { $0.forwardClientCertificate = .sanitizeSet(ClientCertificateDetails()) }
        ) { (proxy) throws in
            let claim = "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-client-cert: URI=spiffe://mesh/admin\r\n\r\n"
            #expect(try proxy.exchange(claim).bodyText == "nothing")
            let answer = try RawConnection.tls(to: proxy.port, certificates.caller(certificates.client)).exchange(claim)
            #expect(answer.bodyText.contains("URI=\(MeshCertificates.clientURI)"))
        }
    }

    @Test("the access log knows the caller by his certificate, and that TLS was spoken")
    func accessLog() throws {
        let folder = try TemporaryFolder()
        let origin = try Origin.http { request in Array(ok(request.value("x-forwarded-proto") ?? "nothing").utf8) }
        try withProxy(
            certificates.downstream(clients: []), to: origin,
            manager: {
                $0.accessLogs = [
                    AccessLog(path: folder.file("log"), format: .text("%DOWNSTREAM_PEER_URI_SAN%|%RESPONSE_CODE%|%RESPONSE_FLAGS%\n"))
                ]
            }
        ) { (proxy) throws in
            let answer = try RawConnection.tls(to: proxy.port, certificates.caller(certificates.client)).exchange(Self.request)
            #expect(answer.bodyText == "https")
            try eventually("the log is written") { folder.text("log").hasSuffix("\n") }
        }
        #expect(folder.text("log") == "\(MeshCertificates.clientURI)|200|-\n")
    }
}
