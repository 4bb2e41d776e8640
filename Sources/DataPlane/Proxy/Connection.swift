import Base
import Reactor

/// A TCP connection of either side: what could not be written yet, and whether more may be read.
///
/// Events come edge-triggered. A connection is read until it is drained or until the side that its bytes go to cannot take more; then
/// `readReady` remembers that there is more, and `resumeReading` goes on without asking epoll. An idle connection owns no buffer.
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
    final private var finishWhenFlushed = false
    final private(set) var sentEnd = false
    final var isConnecting = false
    /// Its place in the listener's list.
    final var listIndex = 0

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
    /// `connect` came to an end: nil = connected.
    func connectFinished(_ error: SystemError?) {}

    // MARK: Reading

    override final func ready(_ readiness: Readiness) {
        if isConnecting {
            guard !readiness.isDisjoint(with: [.writable, .hangup, .error]) else { return }
            isConnecting = false
            connectFinished(Socket.pendingError(descriptor))
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
                unsafe received(UnsafeRawBufferPointer(rebasing: room[..<count]))
            case .wouldBlock:
                readReady = false
            case .end:
                sawEnd = true
                receivedEnd()
            case .failed(let error):
                readReady = false
                failed(error)
            }
        }
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
        let mustGather = isWriteBlocked || isConnecting || piece.count < Self.copyLimit
        if mustGather {
            prepareOutput()
            unsafe output.append(copying: piece)
            if suffix.utf8CodeUnitCount > 0 { output.append(suffix) }
            return
        }
        let tail = unsafe UnsafeRawBufferPointer(start: suffix.utf8Start, count: suffix.utf8CodeUnitCount)
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
        if !output.isEmpty {
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
            sentEnd = true
            Socket.shutdownWrite(descriptor)
        }
        drained()
    }

    private func returnOutput() {
        guard output.allocatedBytes > 0 else { return }
        var emptied = ByteBuffer()
        swap(&emptied, &output)
        worker.buffers.give(emptied)
    }

    /// The destination cannot take more now: its source should not be read.
    final var isCongested: Bool { isWriteBlocked || (isConnecting && !output.isEmpty) }

    /// Sends FIN once everything is written.
    final func finishWriting() {
        finishWhenFlushed = true
        flush()
    }

    // MARK: Closing

    /// Closes now; what is not yet written is lost. `reset`: with RST, so that a cut message is not taken for a whole one.
    func close(reset: Bool = false) {
        guard !isClosed else { return }
        if reset { Socket.resetOnClose(descriptor) }
        returnOutput()
        output.removeAll()
        worker.loop.close(self)
    }
}
