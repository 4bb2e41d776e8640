import Base
import HTTP
import Reactor
import Resilience
import Telemetry

/// After an upgrade: bytes, both ways, until both sides have ended.
extension Stream {
    func tunnelled(fromDownstream bytes: UnsafeRawBufferPointer) {
        requestBytes &+= UInt64(bytes.count)
        guard let upstream, let downstream else { return }
        unsafe relay(bytes, from: downstream, to: upstream)
    }

    func tunnelled(fromUpstream bytes: UnsafeRawBufferPointer) {
        responseBytes &+= UInt64(bytes.count)
        guard let upstream, let downstream else { return }
        unsafe relay(bytes, from: upstream, to: downstream)
    }

    private func relay(_ bytes: UnsafeRawBufferPointer, from source: any StreamSide, to destination: any StreamSide) {
        lastActivity = worker.loop.now
        unsafe destination.sendTunnelled(bytes)
        destination.flush()
        if destination.isCongested { source.pauseReading() }
    }

    /// One side has sent its last byte: the other hears it, and may go on sending (half-close).
    func tunnelEnded(fromDownstream: Bool) {
        tunnelEnds += 1
        if fromDownstream { upstream?.finishWriting() } else { downstream?.finishWriting() }
        guard tunnelEnds == 2 else { return }
        endAttempt(.ok)
        downstream?.abandonKeepAlive()
        finish()
    }
}
