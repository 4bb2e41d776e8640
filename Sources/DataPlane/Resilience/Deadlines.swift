public import Base

/// When a request and each of its attempts must be over: what the caller allows, what the route allows, and what is left of both.
public struct Deadlines: Hashable, Sendable {
    /// Of the whole request, its retries too.
    public let request: Instant
    public let perTry: Nanoseconds?

    /// - Parameters:
    ///   - routeTimeout: nil = none.
    ///   - callerTimeout: what `grpc-timeout` or `x-envoy-expected-rq-timeout-ms` of a trusted hop still allows; it can only shorten.
    ///   - perTry: nil = none.
    public init(started: Instant, routeTimeout: Nanoseconds?, callerTimeout: Nanoseconds? = nil, perTry: Nanoseconds? = nil) {
        let route = routeTimeout.map { started + $0 } ?? .never
        let caller = callerTimeout.map { started + $0 } ?? .never
        request = min(route, caller)
        self.perTry = perTry.flatMap { $0 > .zero ? $0 : nil }
    }

    /// Of an attempt that begins now.
    public func attempt(now: Instant) -> Instant {
        perTry.map { min(now + $0, request) } ?? request
    }

    /// What the next hop is told that it has (`x-envoy-expected-rq-timeout-ms`, `grpc-timeout`): what this attempt has. Nil = no limit.
    public func left(now: Instant) -> Nanoseconds? {
        let end = attempt(now: now)
        return end == .never ? nil : max(end - now, .zero)
    }

    /// Whether an attempt that has used up its own time, but not the request's, should be given up for another one.
    ///
    /// Not if most endpoints look slow: then another attempt takes as long and doubles the load on what is overloaded, which is how a
    /// per-try timeout turns a rush into a collapse. The attempt goes on until the request's deadline.
    ///
    /// - Parameters:
    ///   - slow: endpoints whose latency is above half of the per-try timeout (`EndpointTable.slowCount`).
    ///   - available: endpoints that may be chosen.
    public static func perTryTimeoutHolds(slow: Int, available: Int) -> Bool {
        slow * 2 <= available
    }

    /// `x-envoy-expected-rq-timeout-ms`: milliseconds; nil if malformed, or 0, which says nothing.
    public static func milliseconds(_ value: RawSpan) -> Nanoseconds? {
        guard case .after(let time) = RetryPushback(grpcPushback: value), time > .zero else { return nil }
        return time
    }
}
