import Foundation
import ProxyConfig
import TestSupport
import Testing

/// Certificates that change, are wrong, or are not there.
@Suite struct TLSRotationTests {
    private static let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    private let certificates = MeshCertificates.shared

    /// A folder with `tls.crt`, `tls.key` and `ca.crt`, as the proxy is told; what lies there changes.
    private final class Mounted: Sendable {
        let folder: TemporaryFolder
        let certificates: MeshCertificates

        init(_ certificates: MeshCertificates) throws {
            folder = try TemporaryFolder()
            self.certificates = certificates
            try put(Array(contents(certificates.mesh.certificate)), "ca.crt")
        }

        var pair: TestCertificates.Pair { TestCertificates.Pair(chain: folder.file("tls.crt"), key: folder.file("tls.key")) }

        func put(_ bytes: [UInt8], _ name: String) throws { try folder.replace(name, with: bytes) }
        func put(_ pair: TestCertificates.Pair) throws {
            try put(contents(pair.chain), "tls.crt")
            try put(contents(pair.key), "tls.key")
        }

        func contents(_ path: String) -> [UInt8] { Array(FileManager.default.contents(atPath: path) ?? Data()) }

        var downstream: DownstreamTLS {
            DownstreamTLS(
                certificate: .file(chain: pair.chain, privateKey: pair.key), validation: TLSValidation(trust: .file(folder.file("ca.crt"))),
                alpn: ["http/1.1"])
        }
    }

    private func issue(_ name: String, days: ClosedRange<Int> = -1...30) throws -> TestCertificates.Pair {
        try certificates.mesh.issue(name, names: ["DNS:\(MeshCertificates.serverName)"], subject: "/CN=\(name)", days: days)
    }

    /// The subject that a new connection is shown.
    private func subject(_ proxy: Proxy) throws -> String? {
        let caller = try RawConnection.tls(to: proxy.port, certificates.caller(certificates.client))
        guard try caller.exchange(Self.request).status == 200 else { return nil }
        return caller.tls?.peerSubject
    }

    @Test("certificates change three times under load: every request is answered, open connections stay, new ones get the new one")
    func underLoad() throws {
        let mounted = try Mounted(certificates)
        try mounted.put(try issue("round-0"))
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            let port = proxy.port
            let settings = certificates.caller(certificates.client)
            let load = Load(port: port, requestsPerConnection: 5, connect: { try .tls(to: port, settings) })
            let old = try RawConnection.tls(to: port, settings)
            #expect(try old.exchange(Self.request).bodyText == "ok")
            for round in 1...3 {
                try load.wait(for: 50)
                try mounted.put(try issue("round-\(round)"))
                try eventually("round \(round) serves: \(proxy.log)") { try subject(proxy) == "CN=round-\(round)" }
            }
            try load.wait(for: 50)
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
            #expect(try old.exchange(Self.request).bodyText == "ok")
            #expect(old.tls?.peerSubject == "CN=round-0")
        }
    }

    @Test("what cannot serve is refused and told once; the old pair goes on until a good one comes")
    func refused() throws {
        let mounted = try Mounted(certificates)
        let good = try issue("good")
        try mounted.put(good)
        let origin = try Origin.answering(ok(), records: false)
        let other = try issue("other")
        let expired = try issue("over", days: -20 ... -10)
        let bad: [(String, () throws -> Void, String)] = [
            ("a key of another certificate", { try mounted.put(mounted.contents(other.key), "tls.key") }, "another key"),
            ("an expired one", { try mounted.put(expired) }, "a certificate that is valid now"),
            (
                "no PEM",
                {
                    try mounted.put(good)
                    try mounted.put(Array("nonsense\n".utf8), "tls.crt")
                }, "PEM"
            ),
            (
                "an empty key",
                {
                    try mounted.put(good)
                    try mounted.put([], "tls.key")
                }, "tls.key"
            ),
            (
                "a trust without certificates",
                {
                    try mounted.put(good)
                    try mounted.put([], "ca.crt")
                }, "ca.crt"
            ),
        ]
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            var refusals = 0
            for (what, change, words) in bad {
                let before = proxy.log.utf8.count
                try change()
                func news() -> String { String(decoding: Array(proxy.log.utf8.dropFirst(before)), as: UTF8.self) }
                try eventually("\(what) is refused: \(news())") { news().contains("keeping what serves") && news().contains(words) }
                #expect(try subject(proxy) == "CN=good", "\(what)")
                let metrics = try proxy.page("/metrics")
                #expect(
                    metrics.split(separator: "\n").contains { $0.contains("certificate_refused") && $0.hasSuffix(" 1") },
                    "\(what): \(metrics)")
                refusals += 1
                try mounted.put(good)
                try mounted.put(mounted.contents(certificates.mesh.certificate), "ca.crt")
                try eventually("\(what) is over: \(news())") {
                    try proxy.page("/metrics").split(separator: "\n").contains { $0.contains("certificate_refused") && $0.hasSuffix(" 0") }
                }
            }
            try mounted.put(other)
            try eventually("the other one serves") { try subject(proxy) == "CN=other" }
        }
    }

    @Test("a file that is gone changes nothing until it is there again")
    func gone() throws {
        let mounted = try Mounted(certificates)
        try mounted.put(try issue("first"))
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            try FileManager.default.removeItem(atPath: mounted.pair.key)
            try proxy.waitForLog("keeping what serves")
            #expect(try subject(proxy) == "CN=first")
            try mounted.put(try issue("second"))
            try eventually("the second one serves: \(proxy.log)") { try subject(proxy) == "CN=second" }
        }
    }

    @Test("as Kubernetes does it: a folder behind two links, the inner one turned at once")
    func turnedLink() throws {
        let mounted = try Mounted(certificates)
        let files = FileManager.default
        func write(_ name: String, _ pair: TestCertificates.Pair) throws {
            try files.createDirectory(atPath: mounted.folder.file(name), withIntermediateDirectories: false)
            for (file, path) in [("tls.crt", pair.chain), ("tls.key", pair.key)] {
                try files.copyItem(atPath: path, toPath: mounted.folder.file("\(name)/\(file)"))
            }
        }
        func turn(to name: String) throws {
            try files.createSymbolicLink(atPath: mounted.folder.file("..tmp"), withDestinationPath: name)
            guard unsafe rename(mounted.folder.file("..tmp"), mounted.folder.file("..data")) == 0 else { throw TestFailure("rename") }
        }
        try write("..1", try issue("link-1"))
        try turn(to: "..1")
        for file in ["tls.crt", "tls.key"] {
            try files.createSymbolicLink(atPath: mounted.folder.file(file), withDestinationPath: "..data/\(file)")
        }
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            let port = proxy.port
            let settings = certificates.caller(certificates.client)
            let load = Load(port: port, requestsPerConnection: 3, connect: { try .tls(to: port, settings) })
            for round in 2...4 {
                try write("..\(round)", try issue("link-\(round)"))
                try turn(to: "..\(round)")
                try files.removeItem(atPath: mounted.folder.file("..\(round - 1)"))
                try eventually("round \(round) serves: \(proxy.log)") { try subject(proxy) == "CN=link-\(round)" }
            }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
            #expect(!proxy.log.contains("keeping what serves"), "\(proxy.log)")
        }
    }

    @Test("a trust that changes lets in whom it names, and nobody else any more")
    func trustChanges() throws {
        let mounted = try Mounted(certificates)
        try mounted.put(certificates.server)
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            func isLetIn(_ pair: TestCertificates.Pair, resume: TLSTicket? = nil) -> Bool {
                (try? RawConnection.tls(to: proxy.port, certificates.caller(pair), resume: resume).exchange(Self.request).status) == 200
            }
            let early = try RawConnection.tls(to: proxy.port, certificates.caller(certificates.client))
            #expect(try early.exchange(Self.request).status == 200)
            let ticket = try #require(early.tls?.ticket)
            #expect(isLetIn(certificates.client) && !isLetIn(certificates.strangerClient))
            let bundle = try certificates.all.bundle("both.pem", of: [certificates.mesh.certificate, certificates.stranger.certificate])
            try mounted.put(mounted.contents(bundle), "ca.crt")
            try eventually("both are let in") { isLetIn(certificates.strangerClient) }
            #expect(isLetIn(certificates.client))
            try mounted.put(mounted.contents(certificates.stranger.certificate), "ca.crt")
            try eventually("the mesh is out") { !isLetIn(certificates.client) }
            #expect(!isLetIn(certificates.client, resume: ticket), "not by what he was given before either")
            #expect(isLetIn(certificates.strangerClient))
        }
    }

    @Test("certificates towards endpoints change under load without a failed request")
    func upstream() throws {
        let mounted = try Mounted(certificates)
        try mounted.put(certificates.client)
        let seen = Seen()
        let origin = try Origin.https(certificates.endpoint(asks: true)) { _, tls in
            seen.add(tls.peerSubject ?? "nobody")
            // Every connection serves once, so that new ones are made all the time.
            return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        }
        let tls = certificates.upstream(pair: mounted.pair)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).calling(tls) }) { (proxy) throws in
            let load = Load(port: proxy.port, callers: 2)
            try load.wait(for: 20)
            try mounted.put(try certificates.mesh.issue("renewed", names: ["DNS:renewed"]))
            try eventually("the new one is shown: \(proxy.log)") { seen.all.contains("CN=renewed") }
            let tally = try load.stop()
            #expect(tally.failures == 0, "\(tally.statuses) \(tally.broken.prefix(3))")
        }
    }

    // MARK: What is not there

    @Test("a listener without its certificate stays closed, says why, and opens when the file appears; the others serve meanwhile")
    func missing() throws {
        let mounted = try Mounted(certificates)
        let origin = try Origin.answering(ok(), records: false)
        let plain = try Ports.free()
        try withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [origin.port], admin: admin).listening(mounted.downstream, .permissive)
            snapshot.listeners.append(Config.listener("plain", plain))
            return snapshot
        }) { (proxy) throws in
            try proxy.waitForLog("never plaintext instead")
            #expect(proxy.log.contains(mounted.pair.chain), "\(proxy.log)")
            #expect(throws: (any Error).self) { try proxy.exchange(Self.request) }
            #expect(try RawConnection(to: plain).exchange(Self.request).bodyText == "ok")
            try mounted.put(try issue("late"))
            try eventually("it opens: \(proxy.log)") { (try? subject(proxy)) == "CN=late" }
            #expect(try proxy.exchange(Self.request).bodyText == "ok")
        }
    }

    @Test("an ARN without a file keeps its listener closed, and its cluster answers 503 with the reason; never plaintext")
    func unresolved() throws {
        let origin = try Origin.answering(ok())
        let plain = try Ports.free()
        let arn = "arn:aws:acm:eu-west-1:1:certificate/x"
        try withProxy({ port, admin in
            var snapshot = Config.http(listen: port, to: [origin.port], admin: admin)
                .listening(DownstreamTLS(certificate: .unresolved(arn: arn), alpn: ["http/1.1"]))
                .calling(UpstreamTLS(validation: TLSValidation(trust: .unresolved(arns: [arn]))))
            snapshot.listeners.append(Config.listener("plain", plain))
            return snapshot
        }) { (proxy) throws in
            try proxy.waitForLog(arn)
            #expect(throws: (any Error).self) { try proxy.exchange(Self.request) }
            let answer = try RawConnection(to: plain).exchange(Self.request)
            #expect(answer.status == 503 && answer.bodyText.contains(arn), "\(answer.headText)\(answer.bodyText)")
        }
        #expect(origin.connections.isEmpty)
    }

    @Test("metrics and /certs say how long each certificate is good")
    func expiry() throws {
        let mounted = try Mounted(certificates)
        try mounted.put(try issue("short", days: -1...5))
        let origin = try Origin.answering(ok(), records: false)
        try withProxy({ Config.http(listen: $0, to: [origin.port], admin: $1).listening(mounted.downstream) }) { (proxy) throws in
            let metrics = try proxy.page("/metrics").split(separator: "\n")
            let line = try #require(
                metrics.first {
                    $0.contains("certificate_expiration_timestamp_seconds{") && $0.contains(mounted.pair.chain) && !$0.hasPrefix("#")
                })
            let end = try #require(line.split(separator: " ").last.flatMap { Double($0) })
            let left = end - Date().timeIntervalSince1970
            #expect(left > 4 * 86400 && left <= 5 * 86400, "\(line)")
            let days = try proxy.count("server.days_until_first_cert_expiring")
            #expect(days == 4 || days == 5)
            let page = try proxy.page("/certs")
            #expect(page.contains("short") && page.contains(MeshCertificates.serverName), "\(page)")
            #expect(!page.contains("PRIVATE"))
        }
    }

    private final class Seen: @unchecked Sendable {
        private let lock = NSLock()
        private var names: Set<String> = []

        func add(_ name: String) { lock.withLock { _ = names.insert(name) } }
        var all: Set<String> { lock.withLock { names } }
    }
}
