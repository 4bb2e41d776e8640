public import Base
import COpenSSL

/// One TLS connection, without a socket: ciphertext is lent to it, plaintext comes out; plaintext is given, ciphertext stands in
/// `outgoing`. Belongs to one thread.
///
///     session.feed(ciphertext)
///     if !session.isEstablished, case .failed(let error) = session.handshake() { ... }
///     while case .bytes(let count) = session.read(into: plaintext) { ... }     // until .needMore: then all is taken
///
/// Whatever fails, `outgoing` may hold an alert that says so to the other side: write it before closing.
@safe public final class TLSSession {
    public enum HandshakeResult {
        /// What can be said is in `outgoing`; the other side must answer.
        case needMore
        case done
        case failed(TLSError)
    }

    public enum ReadResult {
        case bytes(Int)
        /// Everything that was fed is taken.
        case needMore
        /// close_notify: the other side sends nothing more. Writing may go on.
        case end
        case failed(TLSError)
    }

    /// What ALPN agreed on (RFC 7301).
    public enum NegotiatedProtocol: Sendable {
        /// The other side named none, or we know none.
        case none
        case h2
        case http1
        case other
    }

    /// Ciphertext for the wire. The owner writes and consumes it, or swaps it with a buffer of its own.
    public var outgoing = ByteBuffer()
    /// Since the handshake has ended well.
    public private(set) var isEstablished = false
    public let context: TLSContext

    private let session: UnsafeMutablePointer<copenssl_session>
    private let serverNameSent: String?
    /// Ciphertext that the owner did not want to be read yet: see `keepRest`.
    private var kept = ByteBuffer()
    private var ending: Ending?
    private var isFinished = false
    private var newest: TLSResumption?

    /// How reading ended; it stays so.
    private enum Ending {
        case closed
        case failed(TLSError)
    }

    /// The side that was connected to.
    public init(server context: TLSContext) {
        precondition(context.isServer, "a context of clients for a server's session")
        self.context = context
        serverNameSent = nil
        unsafe session = Self.make(context)
    }

    /// The side that connects.
    ///
    /// - Parameters:
    ///   - serverName: for SNI. An address is no name and is not sent (RFC 6066 section 3).
    ///   - resume: of an earlier connection with this very context and name; anything else is ignored, and a full handshake is made.
    public init(client context: TLSContext, serverName: String?, resume: TLSResumption? = nil) {
        precondition(!context.isServer, "a context of servers for a client's session")
        self.context = context
        serverNameSent = serverName.flatMap { TLSSession.isHostName($0) ? $0 : nil }
        unsafe session = Self.make(context)
        if let serverNameSent { _ = unsafe copenssl_session_set_server_name(session, serverNameSent) }
        if let resume, resume.context === context, resume.serverName == serverNameSent, resume.take() {
            // What has expired meanwhile is refused here.
            _ = unsafe copenssl_session_resume(session, resume.ticket)
        }
    }

    private static func make(_ context: TLSContext) -> UnsafeMutablePointer<copenssl_session> {
        guard let session = unsafe copenssl_session_new(context.context, context.isServer ? 1 : 0) else {
            fatalError("out of memory: a TLS session")
        }
        return unsafe session
    }

    deinit {
        // Nobody else knows the pointer.
        unsafe copenssl_session_free(session)
    }

    // MARK: Ciphertext in

    /// Lends ciphertext, until `handshake` or `read` returns `.needMore`, or `keepRest` is called: the memory must live as long.
    public func feed(_ ciphertext: UnsafeRawBufferPointer) {
        precondition(unsafe session.pointee.input_count == 0, "fed before all that was lent is read or kept")
        if kept.isEmpty {
            unsafe session.pointee.input = ciphertext.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe session.pointee.input_count = ciphertext.count
        } else {
            unsafe kept.append(copying: ciphertext)
        }
    }

    /// Copies what was lent and is not read yet, so that the lent memory is free. For an owner that stops reading half-way.
    public func keepRest() {
        let count = unsafe session.pointee.input_count
        guard count > 0 else { return }
        unsafe kept.append(copying: session.pointee.input, count: count)
        unsafe session.pointee.input_count = 0
    }

    /// Whether `read` has something to work on without more being fed.
    public var hasInput: Bool {
        unsafe session.pointee.input_count > 0 || !kept.isEmpty || copenssl_session_pending(session) > 0
    }

    /// The connection's other direction has ended. Nil if that was announced by close_notify.
    public func inputEnded() -> TLSError? {
        if case .closed = ending { return nil }
        return isEstablished ? .truncated : .broken("the connection ended during the handshake")
    }

    // MARK: Handshake

    /// Goes on with the handshake: after each `feed`, and for the side that connects once at the start.
    public func handshake() -> HandshakeResult {
        if case .failed(let error) = ending { return .failed(error) }
        guard !isEstablished else { return .done }
        while true {
            // The longest part of a handshake is a certificate chain, of a few KiB; more than this room is asked for again.
            let outcome = unsafe perform(room: 2048) { unsafe copenssl_session_handshake($0) }
            switch outcome {
            case COPENSSL_DONE:
                isEstablished = true
                return .done
            case COPENSSL_WANTS_ROOM: continue
            case COPENSSL_WANTS_INPUT: return .needMore
            case COPENSSL_ENDED: return .failed(fail(.broken("close_notify during the handshake")))
            default: return .failed(fail(failure()))
            }
        }
    }

    // MARK: Plaintext

    /// Decrypts what was fed, as much as there is room for. Never returns `.bytes(0)`.
    public func read(into plaintext: UnsafeMutableRawBufferPointer) -> ReadResult {
        precondition(plaintext.count > 0 && isEstablished, "a read needs room and a handshake")
        switch ending {
        case .closed: return .end
        case .failed(let error): return .failed(error)
        case nil: break
        }
        var room = 0
        while true {
            var count = 0
            let outcome = unsafe perform(room: room) {
                unsafe copenssl_session_read($0, plaintext.baseAddress, plaintext.count, &count)
            }
            switch outcome {
            case COPENSSL_WANTS_ROOM where count == 0:
                room = 256
                continue
            case COPENSSL_ENDED: ending = .closed
            case COPENSSL_FAILED: fail(failure())
            default: break
            }
            // What came before an end or a failure is good; that is told next time.
            if count > 0 { return .bytes(count) }
            switch ending {
            case .closed: return .end
            case .failed(let error): return .failed(error)
            case nil: return .needMore
            }
        }
    }

    /// Encrypts all of it to the end of `outgoing`. Nothing is written after `finishWriting` or a failure.
    public func write(_ plaintext: UnsafeRawBufferPointer) {
        precondition(isEstablished, "a write needs a handshake")
        guard !isFinished else { return }
        if case .failed = ending { return }
        var done = 0
        while done < plaintext.count {
            let rest = unsafe UnsafeRawBufferPointer(rebasing: plaintext[done...])
            var count = 0
            // A record holds up to 16 KiB and costs at most 29 bytes more (TLS 1.2 with AES-GCM; TLS 1.3 takes 22).
            let outcome = unsafe perform(room: rest.count + (rest.count / 16_384 + 1) * 32) {
                unsafe copenssl_session_write($0, rest.baseAddress, rest.count, &count)
            }
            done += count
            if outcome == COPENSSL_FAILED {
                fail(failure())
                return
            }
            precondition(outcome == COPENSSL_DONE || outcome == COPENSSL_WANTS_ROOM, "a write that waits for the other side")
        }
    }

    /// Says close_notify: nothing is written after it. Reading may go on.
    public func finishWriting() {
        guard isEstablished, !isFinished else { return }
        isFinished = true
        if case .failed = ending { return }
        let outcome = unsafe perform(room: 64) { unsafe copenssl_session_finish($0) }
        if outcome == COPENSSL_FAILED { fail(failure()) }
    }

    // MARK: What was agreed

    public var negotiatedProtocol: NegotiatedProtocol {
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        unsafe copenssl_session_protocol(session, &bytes, &count)
        guard let bytes = unsafe bytes, count > 0 else { return .none }
        let name = unsafe UnsafeBufferPointer(start: bytes, count: count)
        if unsafe name.elementsEqual("h2".utf8) { return .h2 }
        return unsafe name.elementsEqual("http/1.1".utf8) ? .http1 : .other
    }

    /// The verified other side; nil if it showed no certificate, or none was asked for. Parsed with each call: keep it.
    public var peer: TLSPeer? {
        guard isEstablished, context.verifiesPeer, let certificate = unsafe copenssl_session_peer(session) else { return nil }
        return unsafe TLSPeer(certificate: TLSCertificate(certificate))
    }

    /// SNI: what the client asked for.
    public var serverName: String? {
        unsafe copenssl_session_server_name(session).map { unsafe String(cString: $0) }
    }

    /// `TLSv1.3`.
    public var version: String { unsafe String(cString: copenssl_session_version(session)) }

    /// `TLS_AES_128_GCM_SHA256`.
    public var cipher: String { unsafe String(cString: copenssl_session_cipher(session)) }

    public var wasResumed: Bool { unsafe copenssl_session_was_resumed(session) != 0 }

    /// On the side that connected: the newest session that the server gave, for the next connection. With TLS 1.3 it comes after the
    /// handshake, with what is read.
    public var resumption: TLSResumption? {
        guard let ticket = unsafe session.pointee.ticket else { return nil }
        if let newest, unsafe newest.ticket == ticket { return newest }
        newest = unsafe TLSResumption(ticket, context: context, serverName: serverNameSent)
        return newest
    }

    // MARK: Below

    /// Calls OpenSSL with the input that is there and room for output, and takes note of what it used of both.
    @inline(__always)
    private func perform(room: Int, _ call: (UnsafeMutablePointer<copenssl_session>) -> CInt) -> Int {
        let isKept = !kept.isEmpty
        if isKept {
            // `kept` does not change during the call.
            unsafe session.pointee.input = kept.unsafeBytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe session.pointee.input_count = kept.count
        }
        if room > 0 {
            let space = unsafe outgoing.unsafeRoom(atLeast: room)
            unsafe session.pointee.output = space.baseAddress?.assumingMemoryBound(to: UInt8.self)
            unsafe session.pointee.output_room = space.count
        } else {
            unsafe session.pointee.output_room = 0
        }
        unsafe session.pointee.output_count = 0
        let outcome = unsafe call(session)
        outgoing.didAppend(unsafe session.pointee.output_count)
        unsafe session.pointee.output_room = 0
        if unsafe session.pointee.spare_count > 0 { takeSpare() }
        if isKept {
            let rest = unsafe session.pointee.input_count
            kept.consume(kept.count - rest)
            unsafe session.pointee.input_count = 0
            if kept.isEmpty { kept.release() }
        }
        return Int(outcome)
    }

    private func takeSpare() {
        unsafe withUnsafeBytes(of: &session.pointee.spare) { spare in
            unsafe outgoing.append(copying: UnsafeRawBufferPointer(rebasing: spare[..<session.pointee.spare_count]))
        }
        unsafe session.pointee.spare_count = 0
    }

    @discardableResult
    private func fail(_ error: TLSError) -> TLSError {
        ending = .failed(error)
        unsafe session.pointee.input_count = 0
        kept.release()
        return error
    }

    private func failure() -> TLSError {
        var alert: CInt = 0
        var text = [CChar](repeating: 0, count: 128)
        let kind = unsafe copenssl_session_failure(&alert, &text, text.count)
        switch Int(kind) {
        // Before the handshake has ended the records are plain, and a bad one says that the other side means something else. Later it
        // says that somebody changed it.
        case COPENSSL_FAILURE_NOT_TLS where !isEstablished: return .notTLS
        case COPENSSL_FAILURE_VERSION: return .noCommonVersion
        case COPENSSL_FAILURE_CIPHER: return .noCommonCipher
        case COPENSSL_FAILURE_PROTOCOL: return .noCommonProtocol
        case COPENSSL_FAILURE_NO_CERTIFICATE: return .noCertificate
        case COPENSSL_FAILURE_ALERT: return .alert(UInt8(truncatingIfNeeded: alert))
        case COPENSSL_FAILURE_CERTIFICATE:
            let error = unsafe session.pointee.verify_error
            return .certificateRefused(
                TLSError.CertificateFault(verifyError: error), reason: unsafe String(cString: copenssl_verify_text(error)),
                subject: unsafe session.pointee.refused.map { unsafe String(cString: $0) } ?? "")
        default:
            let words = text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
            return .broken(words.isEmpty ? "OpenSSL gives no reason" : String(decoding: words, as: UTF8.self))
        }
    }

    /// Names only: an address is not for SNI, and a name must fit into it.
    private static func isHostName(_ text: String) -> Bool {
        guard (1...255).contains(text.utf8.count), !text.utf8.contains(0), !text.utf8.contains(UInt8(ascii: ":")) else { return false }
        // The last label of a name is no number; that of an IPv4 address is one.
        let last = text.split(separator: ".").last ?? ""
        return !last.isEmpty && !last.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
}
