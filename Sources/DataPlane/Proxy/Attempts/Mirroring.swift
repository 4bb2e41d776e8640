import Base
import HTTP
import HTTP1
import ProxyConfig
import Reactor
import Routing
import Telemetry

/// Copies of requests (request_mirror_policies): each is a stream of its own whose caller is nobody. What becomes of it changes nothing for
/// the request that it is a copy of, nor for the metrics of its route.
extension Stream {
    /// Sends a copy to each cluster that the route's dice name.
    func mirror() {
        guard let route, !route.mirrors.isEmpty, !isShadow, let downstream, !downstream.wantsUpgrade else { return }
        for mirror in route.mirrors {
            guard let cluster = filter.clusters[mirror.ordinal], worker.random.below(1_000_000) < Int(mirror.share.millionths) else {
                continue
            }
            cluster.stats.upstreamRqMirrored.increment()
            let side = ShadowSide(of: self, downstream, shadow: worker.takeStream())
            shadows.append(side)
            side.shadow?.beginShadow(side, of: self, to: cluster)
        }
    }

    func mirrorBody(_ piece: UnsafeRawBufferPointer) {
        for shadow in shadows.compactMap(\.shadow) {
            unsafe shadow.requestBody(piece)
            // Nobody slows down for a copy: one that does not keep up is given up.
            if shadow.isOverrun { shadow.downstreamFailed(flags: .localReset, details: "mirror_too_slow") }
        }
    }

    func mirrorEnd() {
        for shadow in shadows.compactMap(\.shadow) {
            shadow.requestTrailers.copy(requestTrailers)
            shadow.requestEnded()
            shadow.flushUpstream()
        }
    }

    func flushMirrors() {
        for shadow in shadows.compactMap(\.shadow) { shadow.flushUpstream() }
    }

    /// The request is over. Copies that are whole go on by themselves.
    func leaveMirrors() {
        guard !shadows.isEmpty else { return }
        let left = shadows
        shadows = []
        for side in left {
            side.original = nil
            guard let shadow = side.shadow, !shadow.requestIsComplete else { continue }
            shadow.downstreamFailed(flags: .downstreamConnectionTermination, details: "mirrored_request_incomplete")
        }
    }

    /// Its endpoint takes less than comes, or none takes it at all.
    private var isOverrun: Bool {
        (upstream?.unsentBytes ?? body.buffer.count) > Self.mirrorBacklog
    }

    private static let mirrorBacklog = 256 * 1024
}

/// The caller of a copy: nobody, who hears nothing and is never slow.
final class ShadowSide: DownstreamSide {
    let connection: DownstreamConnection
    let requestFraming: Framing
    /// Until either is over.
    fileprivate var original: Stream?
    fileprivate var shadow: Stream?

    init(of original: Stream, _ downstream: any DownstreamSide, shadow: Stream) {
        connection = downstream.connection
        requestFraming = downstream.requestFraming
        self.original = original
        self.shadow = shadow
    }

    var wantsUpgrade: Bool { false }
    var expectsContinue: Bool { false }
    var isInHead: Bool { false }
    var isCongested: Bool { false }
    var isReadPaused: Bool { false }

    func pauseReading() {}
    func resumeReading() {}
    func sendBody(_ piece: UnsafeRawBufferPointer) {}
    func flush() {}
    func enterTunnel() {}
    func sendTunnelled(_ bytes: UnsafeRawBufferPointer) {}
    func finishWriting() {}
    func sendInterim(_ head: Head) {}
    func sendHead(_ head: Head, framing: Framing, isUpgrade: Bool, requestHead: Head) {}
    func endResponse(trailers: Head) {}
    func abandonKeepAlive() {}

    func cut() {
        streamFinished()
    }

    func abandon() {
        streamFinished()
    }

    func streamFinished() {
        shadow = nil
        original?.shadows.removeAll { $0 === self }
        original = nil
    }
}
