import Base
import Foundation
import ProxyConfig
import Reactor
import TestSupport
import Testing
import Transport

@testable import Proxy
@testable import Telemetry

/// Certificates that change under a running proxy. Files are looked at when a test says so; one test lets the kernel tell.
@Suite("TLS contexts and their files")
final class TLSContextsTests {
    let certificates: TestCertificates
    let mesh: TestCertificates.Authority
    let first: TestCertificates.Pair
    let second: TestCertificates.Pair
    let folder: TemporaryFolder
    let loop = EventLoop()
    var contexts: TLSContexts!
    var readyCalls = 0
    var seconds = Int64(time(nil))

    init() throws {
        certificates = try TestCertificates()
        mesh = try certificates.authority("mesh")
        first = try mesh.issue("first", names: ["DNS:cart.local"])
        second = try mesh.issue("second", names: ["DNS:cart.local"], days: -1...60)
        folder = try TemporaryFolder()
        let descriptor = unsafe open(folder.file("log"), O_WRONLY | O_CREAT | O_APPEND, 0o600)
        contexts = TLSContexts(
            loop: loop, log: ProcessLog(descriptor: descriptor), wallClock: { [unowned self] in seconds })
        contexts.becameReady = { [unowned self] in readyCalls += 1 }
    }

    private var log: [Substring] { folder.text("log").split(separator: "\n") }

    private var tls: DownstreamTLS {
        DownstreamTLS(certificate: .file(chain: folder.file("tls.crt"), privateKey: folder.file("tls.key")))
    }

    private func put(_ path: String, as name: String) throws {
        try folder.replace(name, with: Array(FileManager.default.contents(atPath: path) ?? Data()))
    }

    private func put(_ pair: TestCertificates.Pair) throws {
        try put(pair.chain, as: "tls.crt")
        try put(pair.key, as: "tls.key")
    }

    private func follow(_ clusters: [Cluster] = []) {
        let chain = FilterChain(name: "c", tls: tls, filter: .tcp(TCPProxy(statPrefix: "p", target: .cluster("x"))))
        follow(
            [Listener(name: "in", address: SocketAddress(.loopbackV4, 1), direction: .inbound, filterChains: [chain])], clusters)
    }

    private func follow(_ listeners: [Listener], _ clusters: [Cluster]) {
        contexts.follow([Snapshot(node: Node(mesh: "m", role: .virtualNode, name: "n"), listeners: listeners, clusters: clusters)])
    }

    private func subject(_ runtime: RuntimeTLS) -> String? { runtime.context?.certificates.first?.subject }

    @Test("what is configured alike shares one context; a name for SNI or leave to use plaintext makes no other")
    func shared() throws {
        try put(first)
        #expect(contexts.runtime(for: tls) === contexts.runtime(for: tls))
        var other = tls
        other.alpn = ["h2"]
        #expect(contexts.runtime(for: tls) !== contexts.runtime(for: other))
        let trust = TLSValidation(trust: .file(mesh.certificate))
        let cluster = contexts.runtime(for: UpstreamTLS(validation: trust, sni: "a"))
        #expect(cluster === contexts.runtime(for: UpstreamTLS(validation: trust, sni: "b", isEnforced: false)))
        #expect(cluster !== contexts.runtime(for: UpstreamTLS(validation: nil)))
        let named = contexts.runtime(
            for: UpstreamTLS(validation: TLSValidation(trust: .file(mesh.certificate), subjectAlternativeNames: ["x"])))
        #expect(named !== cluster)
        #expect(named.context?.trust === cluster.context?.trust, "one bundle is parsed once")
    }

    @Test("a new pair serves from the next look on; the same bytes once more change nothing")
    func replaced() throws {
        try put(first)
        let runtime = contexts.runtime(for: tls)
        follow()
        let before = try #require(runtime.context)
        #expect(subject(runtime) == "CN=first")
        try put(first)
        contexts.check()
        #expect(runtime.context === before)
        try put(second)
        contexts.check()
        #expect(subject(runtime) == "CN=second")
        #expect(before.certificates.first?.subject == "CN=first", "connections of the old one go on")
        #expect(contexts.board.report.map(\.loads) == [2])
        #expect(contexts.board.report.map(\.refusals) == [0])
    }

    @Test("half a pair is refused and told once; the other half makes it good")
    func mismatch() throws {
        try put(first)
        let runtime = contexts.runtime(for: tls)
        follow()
        try put(second.chain, as: "tls.crt")
        for _ in 0..<3 { contexts.check() }
        #expect(subject(runtime) == "CN=first")
        let problem = try #require(contexts.board.report.first?.problem)
        #expect(problem.contains("tls.key: expected the private key of the certificate in "))
        #expect(contexts.board.report.map(\.refusals) == [1])
        let told = log.filter { $0.contains("[error]") }
        #expect(told.count == 1)
        #expect(told.first?.contains("keeping what serves: certificate ") ?? false, "\(told)")
        try put(second.key, as: "tls.key")
        contexts.check()
        #expect(subject(runtime) == "CN=second")
        #expect(contexts.board.report.first?.problem == nil)
    }

    @Test(
        "what cannot be used leaves the old one in place, and going back to that is no new context",
        arguments: ["expired", "not yet valid", "no PEM", "half", "gone", "a folder"])
    func refused(what: String) throws {
        try put(first)
        let runtime = contexts.runtime(for: tls)
        follow()
        let before = try #require(runtime.context)
        switch what {
        case "expired": try put(try mesh.issue("old", days: -20 ... -10))
        case "not yet valid": try put(try mesh.issue("early", days: 10...20))
        case "no PEM": try folder.replace("tls.crt", with: Array("hello".utf8))
        case "half":
            let whole = Array(FileManager.default.contents(atPath: second.chain) ?? Data())
            try folder.replace("tls.crt", with: Array(whole.prefix(whole.count / 2)))
        case "gone": unsafe unlink(folder.file("tls.crt"))
        default:
            unsafe unlink(folder.file("tls.crt"))
            unsafe mkdir(folder.file("tls.crt"), 0o700)
        }
        contexts.check()
        #expect(runtime.context === before)
        #expect(contexts.board.report.first?.problem != nil)
        #expect(contexts.board.report.map(\.refusals) == [1])
        unsafe rmdir(folder.file("tls.crt"))
        try put(first)
        contexts.check()
        #expect(runtime.context === before)
        #expect(contexts.board.report.first?.problem == nil)
        #expect(contexts.board.report.map(\.loads) == [1])
    }

    @Test("a certificate whose time comes is taken without a change of its file")
    func timeComes() throws {
        try put(try mesh.issue("early", days: 10...20))
        let runtime = contexts.runtime(for: tls)
        follow()
        #expect(runtime.context == nil)
        #expect(runtime.problem?.contains("one that begins at") ?? false)
        seconds += 11 * 86_400
        contexts.check()
        #expect(subject(runtime) == "CN=early")
        #expect(readyCalls == 1)
    }

    @Test("files that are not there yet: nothing serves, the reason is known, and it begins when they come")
    func missing() throws {
        let runtime = contexts.runtime(for: tls)
        follow()
        #expect(runtime.context == nil)
        #expect(runtime.problem?.contains("tls.crt: expected a certificate chain in PEM, found that it cannot be read") ?? false)
        #expect(log.contains { $0.contains("nothing is served with it, and never plaintext instead") })
        try put(first.chain, as: "tls.crt")
        contexts.check()
        #expect(runtime.problem?.contains("tls.key: ") ?? false)
        #expect(readyCalls == 0)
        try put(first.key, as: "tls.key")
        contexts.check()
        #expect(subject(runtime) == "CN=first")
        #expect(runtime.problem == nil)
        #expect(readyCalls == 1)
        contexts.check()
        #expect(readyCalls == 1)
    }

    @Test("an ARN that no file is known for stays without a context, and says so")
    func unresolved() {
        let runtime = contexts.runtime(for: DownstreamTLS(certificate: .unresolved(arn: "arn:aws:acm:x")))
        #expect(runtime.context == nil)
        #expect(runtime.problem == "arn:aws:acm:x: expected a certificate chain and a private key, found that no file is known for it")
    }

    @Test("what is no longer configured is forgotten")
    func forgotten() throws {
        try put(first)
        let runtime = contexts.runtime(for: tls)
        follow()
        #expect(contexts.board.report.map(\.users) == [["listener in"]])
        follow()
        #expect(contexts.runtime(for: tls) === runtime, "the next snapshot keeps it")
        follow([], [])
        #expect(contexts.board.report.isEmpty)
        #expect(contexts.runtime(for: tls) !== runtime)
    }

    @Test("a certificate that ends while it serves is told once")
    func ends() throws {
        try put(first)
        let runtime = contexts.runtime(for: tls)
        follow()
        seconds += 31 * 86_400
        for _ in 0..<3 { contexts.check() }
        #expect(runtime.context != nil)
        #expect(log.filter { $0.contains("it has ended, and nothing newer lies there") }.count == 1)
    }

    @Test("metrics: when what ends, what was loaded and refused, what is refused now")
    func metrics() throws {
        try put(first)
        _ = contexts.runtime(for: tls)
        _ = contexts.runtime(for: UpstreamTLS(validation: TLSValidation(trust: .file(mesh.certificate))))
        follow([
            Cluster(
                name: "x", discovery: .originalDestination,
                tls: UpstreamTLS(validation: TLSValidation(trust: .file(mesh.certificate))))
        ])
        try put(second.chain, as: "tls.crt")
        contexts.check()
        var samples = ScrapeSamples()
        contexts.board.scrape(into: &samples, now: seconds)
        let path = folder.file("tls.crt")
        let end = try #require(contexts.runtime(for: tls).context?.certificateExpiry)
        #expect(samples[.certificateExpiration][[path, "certificate"]] == Double(end))
        #expect(samples[.certificateExpiration][[mesh.certificate, "authority"]] ?? 0 > Double(end))
        #expect(samples[.certificateLoads][[path, "success"]] == 1)
        #expect(samples[.certificateLoads][[path, "failure"]] == 1)
        #expect(samples[.certificateRefused] == [[path]: 1, [mesh.certificate]: 0])
        #expect(samples[.daysUntilFirstCertExpiring] == [[]: Double((end - seconds) / 86_400)])
    }

    @Test("a secret of Kubernetes: a link is turned to another folder, and the kernel tells")
    func kubernetes() throws {
        func write(_ pair: TestCertificates.Pair, version: String) throws {
            unsafe mkdir(folder.file(version), 0o700)
            for (name, source) in [("tls.crt", pair.chain), ("tls.key", pair.key)] {
                try FileManager.default.copyItem(atPath: source, toPath: folder.file("\(version)/\(name)"))
            }
            unsafe unlink(folder.file("..data_tmp"))
            #expect(unsafe symlink(version, folder.file("..data_tmp")) == 0)
            #expect(unsafe rename(folder.file("..data_tmp"), folder.file("..data")) == 0)
        }
        try write(first, version: "..1")
        for name in ["tls.crt", "tls.key"] { #expect(unsafe symlink("..data/\(name)", folder.file(name)) == 0) }
        let runtime = contexts.runtime(for: tls)
        follow()
        #expect(subject(runtime) == "CN=first")
        for (pair, version) in [(second, "..2"), (first, "..3"), (second, "..4")] {
            try write(pair, version: version)
            let wanted = pair.chain == first.chain ? "CN=first" : "CN=second"
            for _ in 0..<1000 where subject(runtime) != wanted { loop.turn(maximumWait: .milliseconds(10)) }
            #expect(subject(runtime) == wanted, "\(version)")
        }
        #expect(contexts.board.report.map(\.refusals) == [0], "never seen half")
    }

    @Test("the folders to watch are those of the file and of each link on the way")
    func folders() throws {
        unsafe mkdir(folder.file("a"), 0o700)
        unsafe mkdir(folder.file("b"), 0o700)
        unsafe symlink("../b/link", folder.file("a/file"))
        unsafe symlink("target", folder.file("b/link"))
        #expect(
            FileStamp.folders(leadingTo: folder.file("a/file")) == [folder.file("a"), folder.file("a/../b")])
        #expect(FileStamp.folders(leadingTo: "plain.pem") == ["."])
        #expect(FileStamp.folders(leadingTo: "/plain.pem") == ["/"])
        unsafe symlink("circle", folder.file("circle"))
        #expect(FileStamp.folders(leadingTo: folder.file("circle")) == [folder.path])
    }
}
