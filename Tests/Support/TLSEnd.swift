internal import CTestTLS
import Foundation

/// How a test's end of a connection does TLS.
public struct TLSSettings: Sendable {
    public enum Version: Int32, Comparable, Sendable {
        case v10 = 0x0301
        case v11 = 0x0302
        case v12 = 0x0303
        case v13 = 0x0304

        public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    }

    /// Our certificate; none if nil.
    public var pair: TestCertificates.Pair?
    /// Whom we trust: a PEM file. Nil = everybody; an origin asks for no certificate then.
    public var trust: String?
    /// SNI.
    public var serverName: String?
    /// ALPN, in order of preference.
    public var protocols: [String]
    public var versions: ClosedRange<Version>
    /// An origin gives tickets for resumption.
    public var givesTickets: Bool

    public init(
        pair: TestCertificates.Pair? = nil, trust: String? = nil, serverName: String? = nil, protocols: [String] = [],
        versions: ClosedRange<Version> = .v12 ... .v13, givesTickets: Bool = true
    ) {
        self.pair = pair
        self.trust = trust
        self.serverName = serverName
        self.protocols = protocols
        self.versions = versions
        self.givesTickets = givesTickets
    }
}

/// Why TLS failed at a test's end.
public struct TLSFailure: Error, CustomStringConvertible {
    /// The alert that the other side sent (RFC 8446 section 6).
    public var alert: Int?
    /// OpenSSL's.
    public var words: String

    public var description: String { alert.map { "alert \($0) (\(words))" } ?? words }

    public enum Alert {
        public static let handshakeFailure = 40
        public static let badCertificate = 42
        public static let certificateExpired = 45
        public static let unknownAuthority = 48
        public static let protocolVersion = 70
        public static let certificateRequired = 116
        public static let noApplicationProtocol = 120
    }
}

/// What a server gave for a later connection. May be used several times, whatever the protocol recommends.
@safe public final class TLSTicket: @unchecked Sendable {
    let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) {
        unsafe self.pointer = unsafe pointer
    }

    deinit {
        unsafe test_tls_ticket_free(pointer)
    }
}

/// One end of a TLS connection, over OpenSSL directly: apart from the code that is tested. For one thread at a time.
@safe public final class TLSEnd {
    public enum Role: Sendable {
        case client
        case server
    }

    enum Opened {
        case bytes([UInt8])
        case needMore
        case end
    }

    private let end: OpaquePointer
    /// The connection ended without close_notify.
    public internal(set) var wasTruncated = false

    public init(_ role: Role, _ settings: TLSSettings, resume: TLSTicket? = nil) throws {
        let protocols = settings.protocols.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        func withOptional<Result>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
            guard let text else { return body(nil) }
            return unsafe text.withCString(body)
        }
        let made = unsafe withOptional(settings.pair?.chain) { chain in
            unsafe withOptional(settings.pair?.key) { key in
                unsafe withOptional(settings.trust) { trust in
                    unsafe withOptional(settings.serverName) { name in
                        unsafe protocols.withUnsafeBufferPointer { protocols in
                            var values = unsafe test_tls_settings()
                            unsafe values.is_server = role == .server ? 1 : 0
                            unsafe values.chain = chain
                            unsafe values.key = key
                            unsafe values.trust = trust
                            unsafe values.server_name = name
                            unsafe values.protocols = protocols.baseAddress
                            unsafe values.protocols_count = protocols.count
                            unsafe values.min_version = settings.versions.lowerBound.rawValue
                            unsafe values.max_version = settings.versions.upperBound.rawValue
                            unsafe values.tickets = settings.givesTickets ? 1 : 0
                            return unsafe test_tls_new(&values, resume?.pointer)
                        }
                    }
                }
            }
        }
        guard let made = unsafe made else { throw TLSFailure(words: Self.words) }
        unsafe end = unsafe made
    }

    deinit {
        unsafe test_tls_free(end)
    }

    /// What a caller says first.
    public static func hello(_ settings: TLSSettings) throws -> [UInt8] {
        let end = try TLSEnd(.client, settings, resume: nil)
        _ = try end.shakeHands()
        return end.pull()
    }

    // MARK: What was agreed on

    public var version: TLSSettings.Version? { unsafe TLSSettings.Version(rawValue: test_tls_version(end)) }
    public var wasResumed: Bool { unsafe test_tls_was_resumed(end) != 0 }
    public var isCompressed: Bool { unsafe test_tls_is_compressed(end) != 0 }

    /// By ALPN; nil if nothing was.
    public var agreedProtocol: String? {
        var count = 0
        let bytes = unsafe test_tls_protocol(end, &count)
        guard let bytes = unsafe bytes, count > 0 else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    /// SNI, at an origin.
    public var serverName: String? { unsafe test_tls_server_name(end).map { unsafe String(cString: $0) } }

    /// Of the other side's certificate, in RFC 2253's form; nil without one.
    public var peerSubject: String? {
        var text = [CChar](repeating: 0, count: 1024)
        let count = unsafe text.withUnsafeMutableBufferPointer { unsafe test_tls_peer_subject(end, $0.baseAddress, $0.count) }
        return count == 0 ? nil : String(decoding: text.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// SHA-256 of the other side's certificate, in hexadecimal; nil without one.
    public var peerDigest: String? {
        var digest = [UInt8](repeating: 0, count: 32)
        guard unsafe digest.withUnsafeMutableBufferPointer({ unsafe test_tls_peer_digest(end, $0.baseAddress) }) != 0 else { return nil }
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// The newest; with TLS 1.3 there is none before something was read.
    public var ticket: TLSTicket? { unsafe test_tls_take_ticket(end).map { unsafe TLSTicket($0) } }

    /// TLS 1.2: what asks for another handshake; empty if OpenSSL does not even ask.
    public func renegotiation() -> [UInt8] {
        unsafe test_tls_renegotiate(end) == 0 ? [] : pull()
    }

    /// TLS 1.3: new keys, asked of the other side too (RFC 8446 section 4.6.3).
    public func keyUpdate() -> [UInt8] {
        unsafe test_tls_update_keys(end)
        return pull()
    }

    // MARK: Bytes

    public func push(_ ciphertext: [UInt8]) {
        unsafe test_tls_push(end, ciphertext, ciphertext.count)
    }

    public func pull() -> [UInt8] {
        let count = unsafe test_tls_pending(end)
        guard count > 0 else { return [] }
        return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            unsafe test_tls_pull(end, buffer.baseAddress, count)
            filled = count
        }
    }

    /// Whether it is done; `pull` has what is to be sent.
    public func shakeHands() throws -> Bool {
        switch unsafe Int(test_tls_handshake(end)) {
        case TEST_TLS_DONE: return true
        case TEST_TLS_WANTS_INPUT: return false
        default: throw failure()
        }
    }

    func open(max: Int) throws -> Opened {
        var count = 0
        var result = TEST_TLS_DONE
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: max) { buffer, filled in
            result = unsafe Int(test_tls_read(end, buffer.baseAddress, max, &count))
            filled = count
        }
        switch result {
        case TEST_TLS_DONE: return .bytes(bytes)
        case TEST_TLS_WANTS_INPUT: return .needMore
        case TEST_TLS_ENDED: return .end
        default: throw failure()
        }
    }

    /// Plaintext as records.
    public func seal(_ bytes: [UInt8]) throws -> [UInt8] {
        guard unsafe Int(test_tls_write(end, bytes, bytes.count)) == TEST_TLS_DONE else { throw failure() }
        return pull()
    }

    /// close_notify.
    public func sealEnd() -> [UInt8] {
        unsafe test_tls_finish(end)
        return pull()
    }

    private func failure() -> TLSFailure {
        let alert = unsafe test_tls_alert(end)
        return TLSFailure(alert: alert < 0 ? nil : Int(alert), words: Self.words)
    }

    private static var words: String { unsafe String(cString: test_tls_words()) }
}

extension RawConnection {
    /// Shakes hands; from then on everything is sent and received through TLS.
    ///
    /// - Parameters:
    ///   - resume: what an earlier connection was given.
    ///   - cut: makes segments of each flight of ours; one if nil.
    ///   - plaintext: sent behind the last flight, in the same segment.
    /// - Throws: `TLSFailure`, with the other side's alert if it sent one. With TLS 1.3 a server that refuses our certificate says so at
    ///   the first `receive` only.
    @discardableResult
    public func startTLS(
        _ role: TLSEnd.Role = .client, _ settings: TLSSettings, resume: TLSTicket? = nil, cut: (([UInt8]) -> [[UInt8]])? = nil,
        then plaintext: [UInt8] = [], within limit: Duration = patience
    ) throws -> TLSEnd {
        let end = try TLSEnd(role, settings, resume: resume)
        while true {
            let result = Result { try end.shakeHands() }
            var flight = end.pull()
            if case .success(true) = result, !plaintext.isEmpty { flight += try end.seal(plaintext) }
            if let cut {
                for segment in cut(flight) {
                    try sendRaw(segment, within: limit)
                    // Loopback would join what follows at once.
                    usleep(500)
                }
            } else {
                try sendRaw(flight, within: limit)
            }
            if try result.get() { break }
            let bytes = try receiveRaw(within: limit)
            if bytes.isEmpty { throw TLSFailure(words: "the other side closed during the handshake") }
            end.push(bytes)
        }
        tls = end
        return end
    }

    /// Connects to a port of loopback and shakes hands.
    public static func tls(
        to port: UInt16, _ settings: TLSSettings, resume: TLSTicket? = nil, receiveBuffer: CInt? = nil
    ) throws -> RawConnection {
        let connection = try RawConnection(to: port, receiveBuffer: receiveBuffer)
        try connection.startTLS(.client, settings, resume: resume)
        return connection
    }
}

extension Origin {
    /// An HTTP server behind TLS that answers every request with what `answer` gives.
    public static func https(
        _ settings: TLSSettings, port: UInt16 = 0, _ answer: @escaping @Sendable (HTTPMessage, TLSEnd) throws -> String
    ) throws -> Origin {
        try Origin(port: port, records: false) { connection in
            let tls = try connection.startTLS(.server, settings)
            while let request = try connection.readRequest(within: .seconds(600)) { try connection.send(try answer(request, tls)) }
        }
    }
}
