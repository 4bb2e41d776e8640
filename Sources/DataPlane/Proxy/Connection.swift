import Base
import Reactor
import Transport

/// Why a connection did not come to be.
enum OpenFailure {
    case system(SystemError)
    case tls(TLSError)
}

/// A TCP connection of either side, with or without TLS: what could not be written yet, and whether more may be read.
///
/// Events come edge-triggered. A connection is read until it is drained or until the side that its bytes go to cannot take more; then
/// `readReady` remembers that there is more, and `resumeReading` goes on without asking epoll. An idle connection owns no buffer.
/// Subclasses see plaintext only; `output` is plaintext too, sealed when it is written, so that many small pieces share a record.
class Connection: EventSource {
    /// The worker outlives all its connections.
    @safe final unowned(unsafe) let worker: Worker

    /// What is gathered for the next write, or could not be written. Its memory is lent by the worker while it is needed.
    final var output = ByteBuffer()
    /// A write came back short: wait for `.writable` before the next one.
    final private(set) var isWriteBlocked = false
    /// The bytes of this connection go nowhere at the moment: leave them in the kernel.
    final private(set) var isReadPaused = false
    /// The kernel may hold bytes (or the end) that have not been read.
    final private var readReady = false
    /// The end, or an error, stands behind the bytes that are left: a short read does not mean drained.
    final private var endIsNear = false
    /// The other side has sent its last byte, and we have seen it.
    final private(set) var sawEnd = false
    /// The end came without close_notify: what has no other end of its own may be half of it (RFC 8446 section 6.1).
    final private(set) var wasTruncated = false
    final private var finishWhenFlushed = false
    final private(set) var sentEnd = false
    final private var saidGoodbye = false
    final private var isDiscarding = false
    final var isConnecting = false
    /// Set before the handshake begins; nil = plaintext.
    final private(set) var tls: TLSSession?
    final private(set) var isHandshaking = false

    final var bytesRead: UInt64 = 0
    final var bytesWritten: UInt64 = 0

    /// Reads of one connection per turn of the loop: others wait meanwhile.
    private static let readsPerTurn = 16
    /// Of a long transfer: pieces that stay in the processor's cache between the read and the write cost a third less.
    private static let bulkReadBytes = 32 * 1024
    /// The last read filled all the room it had.
    final private var isBulk = false
    /// Above this a piece is handed to the kernel where it lies; below it a copy is cheaper than a second entry of writev.
    private static let copyLimit = 4096

    init(adopting descriptor: CInt, worker: Worker) {
        self.worker = worker
        super.init(adopting: descriptor)
    }

    // MARK: What subclasses do

    /// Bytes of the worker's scratch buffer: use or copy them now.
    func received(_ bytes: UnsafeRawBufferPointer) {}
    /// The other side has finished writing.
    func receivedEnd() {}
    /// The connection broke; the subclass closes it.
    func failed(_ error: SystemError) {}
    /// Everything that was held back has been written.
    func drained() {}
    /// The connection is open, its TLS handshake included, or will never be.
    func opened(_ failure: OpenFailure?) {}
    /// TLS broke after the handshake.
    func failed(_ error: TLSError) { failed(SystemError.brokenProtocol) }

    // MARK: Reading

    override final func ready(_ readiness: Readiness) {
        if isConnecting {
            guard !readiness.isDisjoint(with: [.writable, .hangup, .error]) else { return }
            isConnecting = false
            if let error = Socket.pendingError(descriptor) { opened(.system(error)) } else { connected() }
            guard !isClosed else { return }
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
    }

    private func pump() {
        var reads = 0
        while readReady, !isReadPaused, !isClosed, !sawEnd {
            guard reads < Self.readsPerTurn else { return worker.loop.callAgain(self) }
            reads += 1
            let room = unsafe isBulk ? UnsafeMutableRawBufferPointer(rebasing: worker.input[..<Self.bulkReadBytes]) : worker.input
            switch unsafe Socket.read(descriptor, into: room) {
            case .bytes(let count):
                // Shorter than asked for means drained: the next bytes, or the end, make a new edge.
                isBulk = count == room.count
                if !isBulk, !endIsNear { readReady = false }
                bytesRead &+= UInt64(count)
                let bytes = unsafe UnsafeRawBufferPointer(rebasing: room[..<count])
                if isDiscarding { continue }
                if tls == nil { unsafe received(bytes) } else { unsafe decrypt(bytes) }
            case .wouldBlock:
                readReady = false
            case .end:
                sawEnd = true
                if isDiscarding { return close() }
                inputEnded()
            case .failed(let error):
                readReady = false
                if isDiscarding { return close() }
                if isHandshaking { opened(.system(error)) } else { failed(error) }
            }
        }
    }

    // MARK: TLS

    /// The TCP connection stands: go on to TLS, if there is to be any. Call it too where `connect` was done at once.
    final func connected() {
        guard tls != nil else { return opened(nil) }
        advanceHandshake()
    }

    /// Everything from here on is TLS; the handshake begins with `connected`, or with the other side's first bytes.
    final func useTLS(_ session: TLSSession) {
        tls = session
        isHandshaking = true
    }

    /// The first bytes that were read before TLS was known to be what they are.
    final func beginTLS(with bytes: UnsafeRawBufferPointer) {
        unsafe decrypt(bytes)
    }

    private func advanceHandshake() {
        guard let tls else { return }
        let result = tls.handshake()
        // If that fails, it is told already: the connection opens once, or fails once.
        guard writeSealed(tls) else { return }
        switch result {
        case .needMore: break
        case .failed(let error): opened(.tls(error))
        case .done:
            isHandshaking = false
            opened(nil)
            if !isClosed { flush() }
        }
    }

    /// All of `bytes` is taken, even when reading is paused meanwhile: at most one read more than asked for.
    private func decrypt(_ bytes: UnsafeRawBufferPointer) {
        guard let tls else { return }
        unsafe tls.feed(bytes)
        if isHandshaking {
            advanceHandshake()
            guard !isHandshaking, !isClosed else { return }
        }
        deliverPlaintext()
    }

    /// Hands on what `feed` was given. Records are gathered to one piece, as far as the scratch buffer goes.
    final func deliverPlaintext() {
        guard let tls else { return }
        var result = TLSSession.ReadResult.needMore
        repeat {
            let room = unsafe worker.plaintext
            var filled = 0
            while filled < room.count {
                result = unsafe tls.read(into: UnsafeMutableRawBufferPointer(rebasing: room[filled...]))
                guard case .bytes(let count) = result else { break }
                filled += count
            }
            if filled > 0 { unsafe received(UnsafeRawBufferPointer(rebasing: room[..<filled])) }
            guard !isClosed else { return }
        } while result.hasBytes
        switch result {
        case .needMore, .bytes: if !tls.outgoing.isEmpty { flush() }
        case .end:
            sawEnd = true
            receivedEnd()
        case .failed(let error):
            writeSealed(tls)
            failed(error)
        }
    }

    /// FIN. Under TLS somebody may have forged it, unless close_notify came before.
    private func inputEnded() {
        guard let tls, let error = tls.inputEnded() else { return receivedEnd() }
        if isHandshaking { return opened(.tls(error)) }
        wasTruncated = true
        receivedEnd()
    }

    /// Writes what is sealed. False: the connection broke, and its owner knows.
    @discardableResult
    private func writeSealed(_ tls: TLSSession) -> Bool {
        guard !isWriteBlocked, !isConnecting, !isClosed, !tls.outgoing.isEmpty else { return true }
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
            if isHandshaking { opened(.system(error)) } else { failed(error) }
            return false
        }
        return true
    }

    private func seal(_ tls: TLSSession, _ bytes: UnsafeRawBufferPointer) {
        guard unsafe !bytes.isEmpty else { return }
        if tls.outgoing.allocatedBytes == 0 { tls.outgoing = worker.buffers.take() }
        unsafe tls.write(bytes)
    }

    final func pauseReading() {
        isReadPaused = true
    }

    /// Goes on reading, from the next turn of the loop: never inside the caller, who may stand inside this connection's own `received`.
    final func resumeReading() {
        guard isReadPaused else { return }
        isReadPaused = false
        if readReady, !isClosed { worker.loop.callAgain(self) }
    }

    // MARK: Writing

    /// Lends `output` memory from the worker's pool. Call before appending.
    @inline(__always)
    final func prepareOutput() {
        if output.allocatedBytes == 0 { output = worker.buffers.take() }
    }

    /// Sends a piece of body behind what is gathered. Large pieces are written where they lie, with `suffix` behind them, in one call.
    final func send(_ piece: UnsafeRawBufferPointer, suffix: StaticString = "") {
        let mustGather = isWriteBlocked || isConnecting || isHandshaking || piece.count < Self.copyLimit
        if mustGather {
            prepareOutput()
            unsafe output.append(copying: piece)
            if suffix.utf8CodeUnitCount > 0 { output.append(suffix) }
            return
        }
        let tail = unsafe UnsafeRawBufferPointer(start: suffix.utf8Start, count: suffix.utf8CodeUnitCount)
        if let tls {
            unsafe seal(tls, output.unsafeBytes)
            output.removeAll()
            unsafe seal(tls, piece)
            unsafe seal(tls, tail)
            writeSealed(tls)
            return
        }
        let written: Int
        switch unsafe Socket.write(descriptor, output.unsafeBytes, piece, tail) {
        case .bytes(let count): written = count
        case .wouldBlock: written = 0
        case .end: written = 0
        case .failed(let error): return failed(error)
        }
        bytesWritten &+= UInt64(written)
        let gathered = output.count
        if written >= gathered + piece.count + tail.count { return output.removeAll() }
        isWriteBlocked = true
        prepareOutput()
        output.consume(min(written, gathered))
        let intoPiece = min(max(0, written - gathered), piece.count)
        unsafe output.append(copying: UnsafeRawBufferPointer(rebasing: piece[intoPiece...]))
        let intoTail = max(0, written - gathered - piece.count)
        unsafe output.append(copying: UnsafeRawBufferPointer(rebasing: tail[intoTail...]))
    }

    /// Writes what is gathered.
    final func flush() {
        guard !isWriteBlocked, !isConnecting, !isClosed else { return }
        if let tls {
            if isHandshaking {
                writeSealed(tls)
                return
            }
            unsafe seal(tls, output.unsafeBytes)
            output.removeAll()
            writeSealed(tls)
            guard !isWriteBlocked, !isClosed else { return }
        } else if !output.isEmpty {
            let gathered = output.count
            switch unsafe Socket.write(descriptor, output.unsafeBytes) {
            case .bytes(let count):
                bytesWritten &+= UInt64(count)
                output.consume(count)
                isWriteBlocked = count < gathered  // A short write means full: the kernel tells when there is room again.
            case .wouldBlock, .end:
                isWriteBlocked = true
            case .failed(let error):
                return failed(error)
            }
            guard !isWriteBlocked else { return }
        }
        returnOutput()
        if finishWhenFlushed, !sentEnd {
            if let tls { sayGoodbye(tls) }
            guard !isWriteBlocked, !isClosed else { return }
            sentEnd = true
            Socket.shutdownWrite(descriptor)
        }
        drained()
    }

    /// close_notify, once: the other side can tell the end from a cut (RFC 8446 section 6.1).
    private func sayGoodbye(_ tls: TLSSession) {
        guard !saidGoodbye else { return }
        saidGoodbye = true
        tls.finishWriting()
        writeSealed(tls)
    }

    private func returnOutput() {
        if output.allocatedBytes > 0 {
            var emptied = ByteBuffer()
            swap(&emptied, &output)
            worker.buffers.give(emptied)
        }
        if let tls, tls.outgoing.allocatedBytes > 0 {
            var emptied = ByteBuffer()
            swap(&emptied, &tls.outgoing)
            worker.buffers.give(emptied)
        }
    }

    /// Something of what was sent has not left yet.
    final var hasOutput: Bool { !output.isEmpty || tls.map { !$0.outgoing.isEmpty } ?? false }

    /// The destination cannot take more now: its source should not be read.
    final var isCongested: Bool { isWriteBlocked || ((isConnecting || isHandshaking) && !output.isEmpty) }

    /// Sends FIN once everything is written.
    final func finishWriting() {
        finishWhenFlushed = true
        flush()
    }

    /// The same, without close_notify if what was written is `cut`: nobody knows whether it was all.
    final func finishWriting(cut: Bool) {
        if cut { saidGoodbye = true }
        finishWriting()
    }

    /// Takes the place of another connection object: its socket and its TLS are this one's now. `start` goes on reading.
    final func takeOver(from other: Connection) {
        worker.loop.replace(other, with: self)
        bytesRead = other.bytesRead
        bytesWritten = other.bytesWritten
        readReady = other.readReady
        endIsNear = other.endIsNear
        isWriteBlocked = other.isWriteBlocked
        tls = other.tls
        other.tls = nil
    }

    /// - Parameter bytes: read already and not looked at, plaintext.
    final func start(with bytes: UnsafeRawBufferPointer) {
        if unsafe !bytes.isEmpty { unsafe received(bytes) }
        start()
    }

    final func start() {
        if !isClosed { deliverPlaintext() }
        if !isClosed { pump() }
    }

    // MARK: Closing

    /// Says goodbye, and throws away what still comes until the other side ends: closing at once would make the kernel send a reset, which
    /// destroys our last words on their way. The subclass sets a deadline.
    final func discardInput() {
        isDiscarding = true
        Socket.shutdownWrite(descriptor)
        if sawEnd { close() }
    }

    /// Closes now; what is not yet written is lost. `reset`: with RST, so that a cut message is not taken for a whole one.
    func close(reset: Bool = false) {
        guard !isClosed else { return }
        if reset {
            Socket.resetOnClose(descriptor)
        } else if let tls, tls.isEstablished, !isWriteBlocked, !saidGoodbye {
            saidGoodbye = true
            tls.finishWriting()
            // If it fails, nobody is there to hear it.
            _ = unsafe Socket.write(descriptor, tls.outgoing.unsafeBytes)
            tls.outgoing.removeAll()
        }
        returnOutput()
        output.removeAll()
        worker.loop.close(self)
    }
}

extension TLSSession.ReadResult {
    fileprivate var hasBytes: Bool {
        if case .bytes = self { true } else { false }
    }
}
