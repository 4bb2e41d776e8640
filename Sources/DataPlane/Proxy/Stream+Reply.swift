import Base
import HTTP
import HTTP1
import Reactor
import Resilience
import Routing
import Telemetry

/// What the proxy itself answers: errors, refusals, replies that a route has.
extension Stream {
    /// Answers the request ourselves. Nothing may have been sent before.
    ///
    /// The reason stands in the log, in the metrics, in the body, and, where it is switched on, in `x-outrigger-details`.
    ///
    /// - Parameter retryAfter: when it may be worth another try; nil or zero = nobody knows.
    func reply(status: Int, flags: ResponseFlags, details: StaticString, body: String, retryAfter: Nanoseconds? = nil) {
        reply(status: status, flags: flags, details: details, body: Array((body + "\n").utf8), retryAfter: retryAfter)
    }

    /// A call that ends with this code; another protocol's caller gets the status that says about the same.
    func reply(status: Int, grpcStatus: UInt32, flags: ResponseFlags, details: StaticString, body: String) {
        reply(
            status: isGRPC ? status : 503, flags: flags, details: details, body: Array((body + "\n").utf8), grpcStatus: grpcStatus)
    }

    func reply(
        status: Int, flags: ResponseFlags, details: StaticString, body text: [UInt8], retryAfter: Nanoseconds? = nil,
        grpcStatus: UInt32? = nil
    ) {
        guard let downstream, !hasResponseStarted else { return }
        self.flags.formUnion(flags)
        self.details = details
        if let upstream {
            self.upstream = nil
            upstream.abandon()
        }
        stopWaiting()
        leaveQueue()
        leaveHedges()
        attempts.hedgeAt = .never
        place.delayEnds = .never
        attempts.nextAt = .never
        attempts.deadline = .never
        hasResponseStarted = true
        responseIsComplete = true
        responseStartedAt = worker.loop.now
        responseHead.removeAll()
        let body = isGRPC ? [] : text
        if isGRPC {
            responseHead.makeGRPCReply(
                status: grpcStatus ?? GRPC.status(ofLocalReply: status, flags: self.flags), message: text)
        } else {
            responseHead.status = status
            responseHead.append(name: "content-type", value: "text/plain; charset=utf-8".utf8, known: .contentType)
        }
        responseHead.append(name: "server", value: "outrigger".utf8, known: .server)
        // The hop before must not repeat it: that would feed what it is refused for.
        if !self.flags.isDisjoint(with: [.upstreamOverflow, .overloadManager, .breakerOpen]) { responseHead.tellOverload() }
        if let retryAfter, retryAfter > .zero {
            responseHead.append(name: "retry-after", value: "\((retryAfter.count + 999_999_999) / 1_000_000_000)".utf8)
        }
        if worker.exposesReplyDetails {
            responseHead.append(name: "x-outrigger-details", value: "\(self.flags) \(details)".utf8, known: .outriggerDetails)
        }
        if let policy, !policy.responseHeaders.isEmpty { policy.responseHeaders.apply(to: responseHead) }
        // What is left of the request would have to be read before the connection could carry another: close instead, politely.
        let isWhole = requestIsComplete || (requestFraming == .none && !downstream.isInHead)
        if !isWhole { downstream.abandonKeepAlive() }
        let hasBody = !body.isEmpty && requestHead.method != .head
        // Trailers only: nothing says a length of what is no body.
        let framing = isGRPC ? Framing.none : .length(Int64(body.count))
        downstream.sendHead(responseHead, framing: framing, isUpgrade: false, requestHead: requestHead)
        if hasBody { unsafe body.withUnsafeBytes { unsafe downstream.sendBody($0) } }
        downstream.endResponse(trailers: responseTrailers)
        responseBytes = UInt64(hasBody ? body.count : 0)
        worker.loop.setDeadline(self, .never)
        // A request without a body is whole with its head; the decoder is about to say so.
        if requestIsComplete || !isWhole { finish() }
    }
}
