/// A TCP connection on a loop, plaintext or TLS, which owns no buffer at rest, and the writing of an HTTP/2 session to it: what HTTPServer
/// and HTTPClient have in common. The proxy's own connections are another kind, made for the request path.
public import Base
public import HTTP2
public import Reactor
public import Transport

/// Why a link did not come to be, or broke.
public enum LinkFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case system(SystemError)
    case tls(TLSError)

    public var description: String {
        switch self {
        case .system(let error): "\(error)"
        case .tls(let error): "TLS: \(error)"
        }
    }
}

/// One TCP connection, with or without TLS. Subclass it and override what it tells.
///
/// Bytes are gathered in `output` and leave with `flush`, or at the end of the turn with `flushLater`. Events come edge-triggered: the link
/// reads until nothing is left or until `pauseReading`. All of it is confined to the loop's thread.
open class Link: EventSource {
    public final let loop: EventLoop
    public final let buffers: LinkBuffers
    /// Plaintext that is to be sent. The owner bounds it.
    public final var output = ByteBuffer()
    /// Nil = plaintext.
    public final private(set) var tls: TLSSession?
    public final private(set) var isConnecting = false
    public final private(set) var isHandshaking = false
    /// The kernel takes no more at the moment.
    public final private(set) var isWriteBlocked = false
    /// The other side has sent its last byte, and we have seen it.
    public final private(set) var sawEnd = false
    /// Bytes that were written to the socket: stands still while the other side reads nothing.
    public final private(set) var bytesWritten: UInt64 = 0

    private final var isReadPaused = false
    /// The kernel may hold bytes, or the end, that were not read.
    private final var readReady = false
    /// The end, or an error, stands behind what is left: a short read does not mean drained.
    private final var endIsNear = false
    private final var isDirty = false
    private final var isFinishing = false
    private final var sentEnd = false
    private final var saidGoodbye = false
    private final var isDiscarding = false
    private final var isFlushingSession = false

    /// Reads of one link per turn of the loop: others wait meanwhile.
    private static let readsPerTurn = 16
    /// Sealed at once: what is sealed cannot be taken back, and costs its size again.
    private static let sealedAtOnce = 64 * 1024

    /// - Parameters:
    ///   - isConnected: false for a descriptor of `Socket.connect` that is still on its way.
    ///   - tls: a handshake that is to be made first.
    public init(adopting descriptor: CInt, isConnected: Bool = true, tls: TLSSession?, loop: EventLoop, buffers: LinkBuffers) {
        self.loop = loop
        self.buffers = buffers
        self.tls = tls
        isConnecting = !isConnected
        isHandshaking = tls != nil
        super.init(adopting: descriptor)
    }

    // MARK: What subclasses do

    /// The connection stands, its TLS handshake included.
    open func opened() {}
    /// Plaintext, in memory that is the link's again after the call.
    open func received(_ bytes: UnsafeRawBufferPointer) {}
    /// The other side has finished writing. `isCut`: under TLS without saying so, and anybody may have done that.
    open func receivedEnd(isCut: Bool) {}
    /// It did not open, or broke. The subclass closes it.
    open func broke(_ failure: LinkFailure) {}
    /// `flushLater` was called in this turn: put what there is into `output` and `flush`.
    open func flushDue() { flush() }
    /// All of `output` has been taken by the kernel. Not told within `flush(_ session:)`, which says it by its result.
    open func drained() {}
    /// Part of `output` has; the rest waits for the other side.
    open func progressed() {}

    // MARK: Reading

    /// Begins, after `EventLoop.add`.
    public final func start() {
        if !isConnecting { connected() }
    }

    public override final func ready(_ readiness: Readiness) {
        if isConnecting {
            guard !readiness.isDisjoint(with: [.writable, .hangup, .error]) else {
                // The turn that `flushLater` asked for, and nothing can leave yet: it is asked for again below.
                isDirty = false
                return
            }
            isConnecting = false
            if let error = Socket.pendingError(descriptor) { return broke(.system(error)) }
            connected()
            guard !isClosed else { return }
            flushLater()
        }
        if isWriteBlocked, readiness.contains(.writable) {
            isWriteBlocked = false
            flush()
            guard !isClosed else { return }
        }
        if !readiness.isDisjoint(with: [.readable, .readClosed, .hangup, .error]) {
            readReady = true
            if !readiness.isDisjoint(with: [.readClosed, .hangup, .error]) { endIsNear = true }
        }
        pump()
        guard readiness.isEmpty, isDirty, !isClosed else { return }
        isDirty = false
        flushDue()
    }

    /// Calls `flushDue` once everything else of this turn is done; once, however often it is asked for.
    public final func flushLater() {
        guard !isDirty, !isClosed else { return }
        isDirty = true
        loop.callAgain(self)
    }

    private func pump() {
        var reads = 0
        while readReady, !isReadPaused, !isClosed, !sawEnd {
            guard reads < Self.readsPerTurn else { return loop.callAgain(self) }
            reads += 1
            let room = unsafe buffers.input
            switch unsafe Socket.read(descriptor, into: room) {
            case .bytes(let count):
                // Shorter than asked for means drained: the next bytes, or the end, make a new edge.
                if count < room.count, !endIsNear { readReady = false }
                if isDiscarding { continue }
                let bytes = unsafe UnsafeRawBufferPointer(rebasing: room[..<count])
                if tls == nil { unsafe received(bytes) } else { unsafe decrypt(bytes) }
            case .wouldBlock:
                readReady = false
            case .end:
                sawEnd = true
                if isDiscarding {
                    // Who has sent its end may still read ours.
                    if unsentBytes == 0 { close() }
                    return
                }
                inputEnded()
            case .failed(let error):
                readReady = false
                if isDiscarding { return close() }
                broke(.system(error))
            }
        }
    }

    /// Leaves what comes in the kernel, and the other side notices.
    public final func pauseReading() {
        isReadPaused = true
    }

    /// Goes on, later in this turn or in the next: never inside the caller.
    public final func resumeReading() {
        guard isReadPaused else { return }
        isReadPaused = false
        if readReady, !isClosed { loop.callAgain(self) }
    }

    // MARK: TLS

    private func connected() {
        guard tls != nil else { return opened() }
        advanceHandshake()
    }

    private func advanceHandshake() {
        guard let tls else { return }
        let result = tls.handshake()
        guard writeSealed(tls) else { return }
        switch result {
        case .needMore: break
        case .failed(let error): broke(.tls(error))
        case .done:
            isHandshaking = false
            opened()
            if !isClosed { flush() }
        }
    }

    /// All of `bytes` is taken, even where reading is paused meanwhile.
    private func decrypt(_ bytes: UnsafeRawBufferPointer) {
        guard let tls else { return }
        unsafe tls.feed(bytes)
        if isHandshaking {
            advanceHandshake()
            guard !isHandshaking, !isClosed else { return }
        }
        while true {
            // Records are gathered to one piece, as far as there is room.
            let room = unsafe buffers.plaintext
            var filled = 0
            var result = TLSSession.ReadResult.needMore
            while filled < room.count {
                result = unsafe tls.read(into: UnsafeMutableRawBufferPointer(rebasing: room[filled...]))
                guard case .bytes(let count) = result else { break }
                filled += count
            }
            if filled > 0, !isDiscarding { unsafe received(UnsafeRawBufferPointer(rebasing: room[..<filled])) }
            guard !isClosed else { return }
            switch result {
            case .bytes: continue
            case .needMore:
                if !tls.outgoing.isEmpty { flush() }
                return
            case .end:
                sawEnd = true
                if !isDiscarding { return receivedEnd(isCut: false) }
                if unsentBytes == 0 { close() }
                return
            case .failed(let error):
                if isDiscarding { return close() }
                if writeSealed(tls) { broke(.tls(error)) }
                return
            }
        }
    }

    private func inputEnded() {
        guard let tls, let error = tls.inputEnded() else { return receivedEnd(isCut: false) }
        if isHandshaking { return broke(.tls(error)) }
        receivedEnd(isCut: true)
    }

    /// False: the link broke, and the subclass knows.
    private func writeSealed(_ tls: TLSSession) -> Bool {
        guard !isWriteBlocked, !isClosed, !tls.outgoing.isEmpty else { return true }
        let sealed = tls.outgoing.count
        switch unsafe Socket.write(descriptor, tls.outgoing.unsafeBytes) {
        case .bytes(let count):
            bytesWritten &+= UInt64(count)
            tls.outgoing.consume(count)
            isWriteBlocked = count < sealed
        case .wouldBlock, .end:
            isWriteBlocked = true
        case .failed(let error):
            tls.outgoing.removeAll()
            broke(.system(error))
            return false
        }
        return true
    }

    // MARK: Writing

    /// What was given to `output` and has not been taken by the kernel, in bytes.
    public final var unsentBytes: Int { output.count + (tls?.outgoing.count ?? 0) }

    /// Writes as much of `output` as the kernel takes; the rest follows by itself.
    public final func flush() {
        guard !isWriteBlocked, !isConnecting, !isHandshaking, !isClosed else { return }
        let before = bytesWritten
        let hadOutput = unsentBytes > 0
        if let tls {
            repeat {
                let piece = min(output.count, Self.sealedAtOnce)
                if piece > 0 {
                    unsafe tls.write(UnsafeRawBufferPointer(rebasing: output.unsafeBytes[..<piece]))
                    output.consume(piece)
                }
                guard writeSealed(tls), !isClosed else { return }
            } while !isWriteBlocked && !output.isEmpty
        } else if !output.isEmpty {
            let count = output.count
            switch unsafe Socket.write(descriptor, output.unsafeBytes) {
            case .bytes(let written):
                bytesWritten &+= UInt64(written)
                output.consume(written)
                isWriteBlocked = written < count  // A short write means full: the kernel tells when there is room again.
            case .wouldBlock, .end:
                isWriteBlocked = true
            case .failed(let error):
                return broke(.system(error))
            }
        }
        guard !isWriteBlocked else {
            if bytesWritten != before { progressed() }
            return
        }
        output.release()
        tls?.outgoing.release()
        if isFinishing, !sentEnd {
            guard sayGoodbye(), !isClosed, !isWriteBlocked else { return }
            sentEnd = true
            Socket.shutdownWrite(descriptor)
            if sawEnd { return close() }
        }
        if hadOutput, !isFlushingSession { drained() }
    }

    /// close_notify, once: the other side can tell the end from a cut (RFC 8446 section 6.1). False: the link broke.
    private func sayGoodbye() -> Bool {
        guard let tls, tls.isEstablished, !saidGoodbye else { return true }
        saidGoodbye = true
        tls.finishWriting()
        let isGood = writeSealed(tls)
        if isGood, !isWriteBlocked { tls.outgoing.release() }
        return isGood
    }

    // MARK: HTTP/2

    /// More than this is not framed ahead: what is framed can no longer be overtaken by another stream.
    private static var framedAtOnce: Int { 128 * 1024 }

    /// Frames and writes what `session` may send, piece by piece, until nothing is left or the kernel takes no more.
    ///
    /// - Returns: whether all of it has left. If not, `drained` follows, and the owner calls this again.
    @discardableResult
    public final func flush(_ session: HTTP2Session) -> Bool {
        isFlushingSession = true
        defer { isFlushingSession = false }
        var hasMore = true
        while hasMore, !isWriteBlocked, !isClosed {
            hasMore = session.wantsToWrite && session.flush(into: &output, limit: Self.framedAtOnce)
            flush()
            if isConnecting || isHandshaking { return false }
        }
        return !hasMore && unsentBytes == 0
    }

    // MARK: Closing

    /// Sends FIN behind `output`, and throws away what still comes until the other side ends too: closing at once would make the kernel
    /// send a reset, which destroys our last words on their way. The subclass sets a deadline.
    public final func finish() {
        guard !isClosed else { return }
        isDiscarding = true
        isFinishing = true
        isReadPaused = false
        if isHandshaking {
            // What is to be said is an alert, which is written or waits.
            if !isWriteBlocked { Socket.shutdownWrite(descriptor) }
        } else {
            flush()
        }
        if sawEnd, !isWriteBlocked { close() } else if readReady, !isClosed { loop.callAgain(self) }
    }

    /// Closes now; what is not written is lost.
    ///
    /// - Parameter reset: with RST, so that a cut message is not taken for a whole one.
    public final func close(reset: Bool = false) {
        guard !isClosed else { return }
        if reset { Socket.resetOnClose(descriptor) } else if !isWriteBlocked { _ = sayGoodbyeAtClose() }
        output.release()
        tls?.outgoing.release()
        loop.close(self)
        closed()
    }

    /// Once, whoever closed it.
    open func closed() {}

    private func sayGoodbyeAtClose() -> Bool {
        guard let tls, tls.isEstablished, !saidGoodbye, output.isEmpty else { return false }
        saidGoodbye = true
        tls.finishWriting()
        // If it fails, nobody is there to hear it.
        _ = unsafe Socket.write(descriptor, tls.outgoing.unsafeBytes)
        return true
    }
}
