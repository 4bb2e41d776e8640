import Base
import ConfigText
import MeshCompiler
import ProxyConfig

// What a route and a cluster do about trouble, as people say it.

extension Way {
    func retryWords(_ action: ForwardAction) -> [String] {
        guard let retry = action.retryPolicy, retry.maxRetries > 0 else { return ["retries: none"] }
        let codes = retry.retriableStatusCodes.map(String.init).joined(separator: ",")
        var line = "retries: \(retry.maxRetries) at most, on \(retry.retryOn.joined(separator: ", "))\(codes.isEmpty ? "" : " (\(codes))")"
        if let timeout = retry.perTryTimeout { line += ", \(duration(timeout)) a try" }
        if retry.onlyIdempotent { line += ", and what the endpoint may have begun only if the method may be repeated" }
        let (shortest, longest) = (duration(retry.backoffBase * 3), duration(retry.backoffLongest))
        let wait = "the first goes at once to another endpoint, the next within \(shortest), later ones within \(longest)"
        return [line, wait] + (action.hedging.map { [$0.words] } ?? [])
    }

    /// Beside the forwarding: what comes before it, and what goes elsewhere.
    func trafficWords(_ route: Route) -> [String] {
        var lines: [String] = []
        if let limit = route.rateLimit { lines.append(limit.words) }
        if let fault = route.fault { lines.append(fault.words) }
        if case .forward(let action) = route.action {
            if !action.hashKeys.isEmpty { lines.append("the hash is of \(action.hashKeys.map(\.words).joined(separator: ", else of "))") }
            lines += action.mirrors.map { "a copy of \($0.share.words) goes to \($0.cluster), whose answer nobody sees" }
        }
        lines += route.requestHeaders.words("request") + route.responseHeaders.words("response")
        return lines
    }

    func resilienceWords(_ cluster: Cluster) -> [String] {
        guard let policy = cluster.resilience else { return [] }
        var lines: [String] = []
        if let endpoint = policy.endpoint {
            lines.append("each endpoint has a breaker: \(endpoint.breaker.words)")
            var together = "at most \(endpoint.maxEjectionPercent)% of the endpoints are out"
            if endpoint.minimumDeviationPercent > 0 {
                together += ", and only those that fail \(endpoint.minimumDeviationPercent) percentage points more often than the median"
            }
            lines.append(together)
            if let rate = endpoint.successRate {
                let deviations = Double(rate.deviationThousandths) / 1000
                lines.append(
                    "every \(duration(endpoint.interval)) those go whose success rate is \(deviations) standard deviations below the mean")
            }
            if let failures = endpoint.failurePercentage {
                lines.append("every \(duration(endpoint.interval)) those go of whose calls \(failures.percent)% failed")
            }
            if let interval = endpoint.connectionProbeInterval {
                lines.append("one that could not be connected to is tried every \(duration(interval))")
            }
        }
        if let service = policy.service { lines.append("the service as a whole has a breaker: \(service.words); while it is open, 503") }
        if let limiter = policy.limiter {
            lines.append(
                "as many requests at once as do not queue at the endpoints: \(limiter.minimum) to \(limiter.maximum) a worker, "
                    + "\(limiter.initial) at first")
        }
        if policy.limiter != nil || cluster.circuitBreakers.maxRequests != nil {
            let queue = policy.queue
            lines.append(
                queue.capacity == 0
                    ? "beyond that a request is refused at once"
                    : "beyond that \(queue.capacity) requests wait, \(duration(queue.longestWait)) at most")
        }
        lines.append(
            "retries of all: at most \(policy.retryBudget.percent)% of the requests under way, \(policy.retryBudget.minimum) in any case")
        return lines
    }

    /// Of consistent hashing, zones, slow start.
    func balancingWords(_ cluster: Cluster) -> [String] {
        var lines: [String] = []
        let options = cluster.balancing
        if let bound = options.hashBoundPercent, cluster.loadBalancing == .ringHash || cluster.loadBalancing == .maglev {
            lines.append("an endpoint takes at most \(bound)% of its fair share; then the next one is taken")
        }
        if let size = options.preferredZoneSize { lines.append("endpoints of the own zone first, if it has at least \(size)") }
        if options.slowStart != .none {
            lines.append(
                "new endpoints get \(options.slowStart.startPercent)% of their load at first, all of it after "
                    + "\(duration(options.slowStart.duration))"
            )
        }
        return lines
    }
}

extension BreakerPolicy {
    fileprivate var words: String {
        var reasons: [String] = []
        if let errors = trip.consecutiveErrors { reasons.append("\(errors) errors in a row") }
        var shares: [String] = []
        if let percent = trip.failurePercent { shares.append("\(percent)% failed") }
        if let percent = trip.slowPercent { shares.append("\(percent)% took longer than \(duration(trip.slowCall))") }
        if !shares.isEmpty {
            let window =
                switch trip.window {
                case .calls(let count): "the last \(count) calls"
                case .time(let length): "the calls of the last \(duration(length))"
                }
            reasons.append("\(shares.joined(separator: " or ")) of \(window), if there were \(trip.minimumCalls)")
        }
        let growth =
            switch open.backoff {
            case .linear: "longer by as much each time in a row"
            case .exponential(100): "each time"
            case .exponential(let percent): "\(percent)% of that the next time in a row"
            }
        let opens =
            mode == .observe
            ? "only told, never opened" : "open for \(duration(open.base)), \(growth), \(duration(open.longest)) at most"
        let back: String =
            switch probe {
            case .none: ""
            case .calls(let calls): "; then \(calls.count) calls must show that it is well"
            }
        let ramp = ramp == .none ? "" : "; the load comes back over \(duration(ramp.duration))"
        return "\(reasons.joined(separator: ", or ")): \(opens)\(mode == .observe ? "" : back + ramp)"
    }
}

extension Hedging {
    fileprivate var words: String {
        let more = maxAttempts == 1 ? "a second attempt goes" : "up to \(maxAttempts) more attempts go"
        return "without an answer after \(duration(delay)) \(more) beside the first"
    }
}

extension LocalRateLimit {
    fileprivate var words: String { "rate limit: \(requests) requests in \(duration(interval)), \(burst) at once; more get 429" }
}

extension FaultInjection {
    fileprivate var words: String {
        var parts: [String] = []
        if let delay { parts.append("\(delayShare.words) wait \(duration(delay))") }
        switch abort {
        case .http(let status): parts.append("\(abortShare.words) get \(status)")
        case .grpc(let code): parts.append("\(abortShare.words) get the gRPC status \(code)")
        case nil: break
        }
        let condition = headers.isEmpty ? "" : ", where \(headers.map(\.words).joined(separator: " and "))"
        return "fault injected: \(parts.joined(separator: "; "))\(condition)"
    }
}

extension Share {
    fileprivate var words: String {
        guard self != .all else { return "all requests" }
        return "\(millionths % 10_000 == 0 ? "\(millionths / 10_000)" : "\(percent)")% of the requests"
    }
}

extension HashKey {
    fileprivate var words: String {
        switch self {
        case .header(let name): "the header \(name)"
        case .cookie(let name): "the cookie \(name)"
        case .sourceAddress: "the caller's address"
        }
    }
}

extension HeaderChanges {
    fileprivate func words(_ message: String) -> [String] {
        guard !isEmpty else { return [] }
        let parts =
            remove.map { "without \($0)" } + set.map { "\($0.name) is set to \"\($0.value)\"" }
            + add.map { "\($0.name): \($0.value) is added" }
        return ["headers of the \(message): \(parts.joined(separator: ", "))"]
    }
}
