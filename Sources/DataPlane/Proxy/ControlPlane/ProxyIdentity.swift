import Base
import ConfigText
import Glibc
import HTTPClient
import ProxyConfig
import Reactor
import Telemetry
import Transport
import XDSWire

/// The certificate by which a managed proxy is known in its mesh: got with a token, kept with its key in one file, renewed at half its
/// life. It serves under the name `Secret.identityName`, and is shown to the control plane.
///
/// What fails is told and tried again; what it has goes on.
final class ProxyIdentity {
    /// Key and chain; what is asked for anew is written whole, so that the two always fit.
    let path: String
    /// Why the last attempt failed; nil = it did not.
    private(set) var problem: String?
    unowned var link: ControlPlaneLink!

    private let options: ControlPlaneOptions
    private let loop: EventLoop
    private let tls: TLSContexts
    private let log: ProcessLog
    private let wallClock: () -> Int64
    private let changed: () -> Void
    private var certificate: TLSCertificate?
    private var connection: HTTPClientConnection?
    private var stream: HTTPClientStream?
    private var loads: UInt64 = 0
    private var refusals: UInt64 = 0
    /// The certificate was not enough: the token is next, if there is one.
    private var needsToken = false
    private var nextAttempt: Instant
    private var timer: LoopTimer!

    /// Between attempts that fail.
    static let retryTime = Nanoseconds.seconds(10)
    /// The wall clock may be set while we wait for half a life: it is looked at so often.
    private static let longestWait = Nanoseconds.seconds(600)
    private static let timeout = Nanoseconds.seconds(10)
    /// Two chains of three certificates have 6 KiB.
    static let maxReplyBytes = 256 << 10

    /// Nil: nothing was kept, and no token is there to begin with.
    ///
    /// - Parameters:
    ///   - wallClock: seconds since 1970.
    ///   - changed: another certificate is there.
    init?(
        options: ControlPlaneOptions, loop: EventLoop, tls: TLSContexts, log: ProcessLog = .standard,
        wallClock: @escaping () -> Int64 = { Clock.realtime() / 1_000_000_000 }, changed: @escaping () -> Void
    ) {
        guard let path = options.identityPath, options.tls?.certificate == nil else { return nil }
        let kept = try? FileReader.read(path)
        guard kept != nil || options.joinToken != nil else { return nil }
        self.path = path
        self.options = options
        self.loop = loop
        self.tls = tls
        self.log = log
        self.wallClock = wallClock
        self.changed = changed
        nextAttempt = loop.now
        timer = LoopTimer { [unowned self] _ in
            connection == nil ? look() : failed("no answer within \(Int(Self.timeout.seconds)) s")
        }
        if let kept { take(kept) }
        tell(nil)
    }

    deinit {
        loop.cancelDeadline(timer)
    }

    /// The file, while the certificate in it holds.
    var usable: String? { held == nil ? nil : path }

    /// The certificate, while it holds.
    var held: TLSCertificate? { certificate.flatMap { $0.notAfter > wallClock() ? $0 : nil } }

    /// Since when it should be renewed, in seconds since 1970; nil: there is none.
    private var renewalTime: Int64? { certificate.map { $0.notBefore + ($0.notAfter - $0.notBefore) / 2 } }

    /// The control plane is there. It is asked by the timer: not from within what tells of another connection.
    func controlPlaneCame() {
        if connection == nil { loop.setDeadline(timer, loop.now) }
    }

    /// Asks for a certificate if it is time, and the control plane is there.
    private func look() {
        guard connection == nil else { return }
        let now = wallClock()
        if let renewalTime, renewalTime > now {
            return loop.setDeadline(timer, loop.now + min(Self.longestWait, .seconds(renewalTime - now)))
        }
        guard loop.now >= nextAttempt else { return loop.setDeadline(timer, nextAttempt) }
        // The link calls again when it has connected.
        guard let address = link.address else { return }
        ask(at: address)
    }

    // MARK: Asking

    private func ask(at address: SocketAddress) {
        nextAttempt = loop.now + Self.retryTime
        let key: TLSKey
        let body: String
        do {
            key = try TLSKey()
            body = JSONWriter.write(try request(key.certificateRequest()))
        } catch {
            return failed("\(error)")
        }
        let context: TLSContext?
        do {
            context = try link.makeContext(address)
        } catch {
            return failed(error.text)
        }
        // A connection of its own: the other one still shows the certificate of before.
        let connection = HTTPClientConnection(loop: loop, address: address, tls: context, serverName: options.host)
        self.connection = connection
        connection.open()
        let stream = connection.request(
            method: "POST", path: "/v1/join", authority: options.authority, headers: [("content-type", "application/json")],
            endStream: false)
        self.stream = stream
        var status = 0
        var reply: [UInt8] = []
        stream.onHead = { status = $0.status }
        stream.onBody = { [unowned self] piece in
            reply += piece
            if reply.count > Self.maxReplyBytes { failed("the control plane's answer has more than \(Self.maxReplyBytes) bytes") }
        }
        stream.onEnd = { [unowned self] _ in answered(status, reply, key) }
        stream.onFailed = { [unowned self] failure in failed("\(failure)") }
        stream.send(Array(body.utf8))
        stream.end()
        loop.setDeadline(timer, loop.now + Self.timeout)
    }

    private func request(_ certificateRequest: String) -> Document {
        var entries: [(key: String, value: Document)] = [
            ("certificateRequest", .text(certificateRequest)), ("instance", .text(options.node.instance)),
        ]
        if usable == nil || needsToken, let token = options.joinToken { entries.append(("token", .text(token))) }
        // Plaintext on this machine shows no certificate: there the name in it is enough.
        if options.tls == nil, let identity = certificate?.uriNames.first, let subject = Self.subject(identity) {
            entries.append(("subject", subject))
        }
        return .map(entries)
    }

    /// `spiffe://demo/ns/shop/vn/cart` as the API names a resource.
    private static func subject(_ identity: String) -> Document? {
        let parts = identity.split(separator: "/").suffix(4).map(String.init)
        guard parts.count == 4, parts[0] == "ns", ["vn", "vg"].contains(parts[2]) else { return nil }
        return .entries([
            "kind": .text(parts[2] == "vn" ? "VirtualNode" : "VirtualGateway"), "namespace": .text(parts[1]), "name": .text(parts[3]),
        ])
    }

    // MARK: Answers

    private func answered(_ status: Int, _ reply: [UInt8], _ key: TLSKey) {
        let fields = FlatJSON.strings(in: reply)
        guard status == 200, let chain = fields?["certificateChain"] else {
            if status == 401 { needsToken = true }
            let words = fields?["detail"] ?? fields?["title"] ?? "status \(status)"
            return failed("the control plane gives no certificate: \(words)")
        }
        let bytes = key.pem + Array(chain.utf8)
        let problems = tls.problems(in: [Self.secret(bytes)])
        guard problems.isEmpty else { return failed("the control plane's certificate cannot be used: \(problems[0])") }
        do {
            try StateFile.replace(path, with: bytes)
        } catch {
            return failed("cannot keep the certificate in \(path): \(error)")
        }
        close()
        needsToken = false
        take(bytes)
        tell(nil)
        changed()
        look()
    }

    /// What it has goes on.
    private func failed(_ words: String) {
        close()
        refusals += 1
        let end = certificate.map { "keeping \($0.serial) until \(Timestamp.text($0.notAfter * 1_000_000_000))" } ?? "without a certificate"
        if words != problem { log.error("identity", "\(words); \(end)") }
        tell(words)
        loop.setDeadline(timer, nextAttempt)
    }

    private func close() {
        guard let connection else { return }
        self.connection = nil
        // Nothing of it is called any more.
        stream?.reset()
        stream = nil
        connection.close()
    }

    // MARK: Having one

    private func take(_ bytes: [UInt8]) {
        let source = CertificateSource.file(chain: path, privateKey: path)
        do {
            // At the time of its end it is no reason not to start: the token may get another.
            certificate = try TLSContext.server(DownstreamTLS(certificate: source), now: wallClock()) { _ in bytes }.certificates.first
        } catch {
            problem = "\(error)"
            return log.error("identity", "\(error); a new token is needed")
        }
        loads += 1
        guard let certificate else { return }
        let name = certificate.uriNames.first ?? certificate.subject
        log.info(
            "identity", "\(name): certificate \(certificate.serial), good until \(Timestamp.text(certificate.notAfter * 1_000_000_000))")
        tls.setOwn(Self.secret(bytes), report(nil))
    }

    private static func secret(_ bytes: [UInt8]) -> Secret {
        Secret(name: Secret.identityName, content: .certificate(chain: bytes, privateKey: bytes))
    }

    private func tell(_ problem: String?) {
        self.problem = problem ?? (certificate == nil ? self.problem : nil)
        tls.setOwn(nil, report(self.problem))
    }

    private func report(_ problem: String?) -> TLSReport {
        TLSReport(
            source: path, users: ["this proxy in its mesh"], loads: loads, refusals: refusals, problem: problem,
            isReady: certificate != nil, chainPath: path, trustPath: "", chain: certificate.map { [$0] } ?? [], authorities: [])
    }
}

/// Objects without objects in them, as the control plane answers (RFC 8259).
enum FlatJSON {
    /// The fields that are strings; nil: it is no such object.
    static func strings(in bytes: [UInt8]) -> [String: String]? {
        var reader = Reader(rest: bytes[...])
        return reader.object()
    }

    private struct Reader {
        var rest: ArraySlice<UInt8>

        mutating func object() -> [String: String]? {
            var fields: [String: String] = [:]
            guard take("{") else { return nil }
            if take("}") { return fields }
            repeat {
                guard let name = string(), take(":") else { return nil }
                if let value = string() { fields[name] = value } else if !skipPlain() { return nil }
            } while take(",")
            return take("}") ? fields : nil
        }

        private mutating func skipSpace() {
            rest = rest.drop { [0x20, 0x09, 0x0a, 0x0d].contains($0) }
        }

        private mutating func take(_ letter: Unicode.Scalar) -> Bool {
            skipSpace()
            guard rest.first == UInt8(ascii: letter) else { return false }
            rest.removeFirst()
            return true
        }

        /// A number, true, false, null.
        private mutating func skipPlain() -> Bool {
            let before = rest.count
            rest = rest.drop { $0 > 0x20 && ![0x2c, 0x7d, 0x7b, 0x5b, 0x5d, 0x22].contains($0) }
            return rest.count < before
        }

        private mutating func string() -> String? {
            guard take("\"") else { return nil }
            var text: [UInt8] = []
            while let byte = rest.popFirst() {
                switch byte {
                case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
                case UInt8(ascii: "\\"):
                    guard let scalar = escape() else { return nil }
                    text += Array(String(scalar).utf8)
                default: text.append(byte)
                }
            }
            return nil
        }

        private mutating func escape() -> Unicode.Scalar? {
            guard let letter = rest.popFirst() else { return nil }
            switch letter {
            case UInt8(ascii: "n"): return "\n"
            case UInt8(ascii: "r"): return "\r"
            case UInt8(ascii: "t"): return "\t"
            case UInt8(ascii: "b"): return "\u{8}"
            case UInt8(ascii: "f"): return "\u{c}"
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
            case UInt8(ascii: "u"):
                guard let first = hexadecimal() else { return nil }
                guard (0xd800..<0xdc00).contains(first) else { return Unicode.Scalar(first) }
                guard rest.popFirst() == UInt8(ascii: "\\"), rest.popFirst() == UInt8(ascii: "u"), let second = hexadecimal(),
                    (0xdc00..<0xe000).contains(second)
                else { return nil }
                return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
            default: return nil
            }
        }

        private mutating func hexadecimal() -> UInt32? {
            let digits = rest.prefix(4)
            rest = rest.dropFirst(4)
            return digits.count == 4 ? UInt32(String(decoding: digits, as: UTF8.self), radix: 16) : nil
        }
    }
}
