import Base
import ProxyConfig

// What TrafficPolicies set (outrigger/v1), in the words of xDS where it has some.

// MARK: Routes

extension RetryPolicy {
    var document: Document {
        .entries([
            "retry_on": .text(retryOn.joined(separator: ",")),
            "retriable_status_codes": retriableStatusCodes.isEmpty
                ? nil : .text(retriableStatusCodes.map(String.init).joined(separator: ",")),
            "num_retries": .number(maxRetries), "per_try_timeout": perTryTimeout.map { .text(duration($0)) },
            "host_selection_retry_max_attempts": .number(hostSelectionMaxAttempts),
            "only_idempotent": onlyIdempotent ? .flag(true) : nil, "retry_back_off": backoff,
        ])
    }

    /// Not what everybody expects: Envoy's 25 and 250 ms.
    private var backoff: Document? {
        guard backoffBase != .milliseconds(25) || backoffLongest != .milliseconds(250) else { return nil }
        return .entries(["base_interval": .text(duration(backoffBase)), "max_interval": .text(duration(backoffLongest))])
    }
}

extension Share {
    /// `100%`, `0.5%`.
    fileprivate var text: String {
        let (whole, rest) = (millionths / 10_000, millionths % 10_000)
        guard rest > 0 else { return "\(whole)%" }
        var digits = String(rest)
        digits = String(repeating: "0", count: 4 - digits.utf8.count) + digits
        while digits.last == "0" { digits.removeLast() }
        return "\(whole).\(digits)%"
    }
}

extension HeaderChanges {
    var document: Document {
        .entries([
            "remove": .nonEmpty(remove.map { .text($0) }), "set": set.isEmpty ? nil : .map(set.map { ($0.name, .text($0.value)) }),
            "add": add.isEmpty ? nil : .map(add.map { ($0.name, .text($0.value)) }),
        ])
    }
}

extension LocalRateLimit {
    var document: Document {
        .entries(["requests": .number(requests), "interval": .text(duration(interval)), "burst": .number(burst)])
    }
}

extension FaultInjection {
    func document(headers: [Document]) -> Document {
        let abort: Document? = abort.map {
            switch $0 {
            case .http(let status): .entries(["http_status": .number(status), "percentage": .text(abortShare.text)])
            case .grpc(let code): .entries(["grpc_status": .number(code), "percentage": .text(abortShare.text)])
            }
        }
        return .entries([
            "delay": delay.map { .entries(["fixed_delay": .text(duration($0)), "percentage": .text(delayShare.text)]) },
            "abort": abort, "headers": .nonEmpty(headers),
        ])
    }
}

extension Hedging {
    var document: Document { .entries(["delay": .text(duration(delay)), "max_attempts": .number(maxAttempts)]) }
}

extension HashKey {
    var document: Document {
        switch self {
        case .header(let name): .entries(["header": .text(name)])
        case .cookie(let name): .entries(["cookie": .text(name)])
        case .sourceAddress: .text("source_address")
        }
    }
}

extension RequestMirror {
    var document: Document { .entries(["cluster": .text(cluster), "percentage": .text(share.text)]) }
}

// MARK: Clusters

extension BalancingOptions {
    /// What is not as it is without a word; nil if nothing is.
    func document(_ policy: LoadBalancing) -> Document? {
        let entries: [(key: String, value: Document?)] = [
            ("latency_half_life", policy == .peakEWMA ? .text(duration(latencyHalfLife)) : nil),
            ("hash_balance_factor", hashBoundPercent.map { .number($0) }),
            ("preferred_zone_size", preferredZoneSize.map { .number($0) }), ("slow_start", slowStart.document),
        ]
        let shown = entries.compactMap { entry in entry.value.map { (key: entry.key, value: $0) } }
        return shown.isEmpty ? nil : .map(shown)
    }
}

extension Ramp {
    /// Nil for none.
    fileprivate var document: Document? {
        self == .none ? nil : .entries(["duration": .text(ConfigText.duration(duration)), "start_percent": .number(startPercent)])
    }
}

extension ResiliencePolicy {
    var document: Document {
        .entries([
            "endpoint_breaker": endpoint?.document, "service_breaker": service.map { .map($0.entries) },
            "adaptive_limit": limiter?.document, "queue": queue.document, "retry_budget": retryBudget.document,
        ])
    }
}

extension EndpointPolicy {
    fileprivate var document: Document {
        let own = Document.entries([
            "interval": .text(duration(interval)), "max_ejection_percent": .number(maxEjectionPercent),
            "minimum_deviation_percent": .number(minimumDeviationPercent), "success_rate": successRate?.document,
            "failure_percentage": failurePercentage?.document,
            "connection_probe_interval": .text(connectionProbeInterval.map(duration) ?? "none"),
        ])
        guard case .map(let entries) = own else { return own }
        return .map(breaker.entries + entries)
    }
}

extension BreakerPolicy {
    fileprivate var entries: [(key: String, value: Document)] {
        func percent(_ value: UInt32?) -> Document? { value.map { .text("\($0)%") } }
        let window: Document =
            switch trip.window {
            case .calls(let count): .text("\(count) calls")
            case .time(let length): .text(duration(length))
            }
        let growth: Document =
            switch open.backoff {
            case .linear: .text("linear")
            case .exponential(let percent): .text("\(percent)%")
            }
        let probes: Document =
            switch probe {
            case .none: .text("none")
            case .calls(let calls):
                .entries([
                    "count": .number(calls.count), "concurrency": .number(calls.concurrency),
                    "success": .text("\(calls.successPercent)%"), "longest_wait": .text(duration(calls.longestWait)),
                ])
            }
        let entries: [(key: String, value: Document?)] = [
            ("mode", mode == .observe ? .text("observe") : nil),
            ("consecutive_errors", trip.consecutiveErrors.map { .number($0) }), ("failures", percent(trip.failurePercent)),
            ("slow_calls", percent(trip.slowPercent)), ("slow_call", trip.slowPercent == nil ? nil : .text(duration(trip.slowCall))),
            ("window", trip.looksAtWindow ? window : nil), ("minimum_calls", trip.looksAtWindow ? .number(trip.minimumCalls) : nil),
            (
                "open_time",
                .entries([
                    "base": .text(duration(open.base)), "longest": .text(duration(open.longest)), "growth": growth,
                    "jitter": .text("\(open.jitterPercent)%"),
                ])
            ),
            ("probes", probes), ("ramp", ramp.document ?? .text("none")),
        ]
        return entries.compactMap { entry in entry.value.map { (key: entry.key, value: $0) } }
    }
}

extension BreakerPolicy.Trip {
    fileprivate var looksAtWindow: Bool { failurePercent != nil || slowPercent != nil }
}

extension EndpointPolicy.SuccessRate {
    fileprivate var document: Document {
        .entries([
            "deviation_thousandths": .number(deviationThousandths), "minimum_hosts": .number(minimumHosts),
            "minimum_calls": .number(minimumCalls), "minimum_deviation_percent": .number(minimumDeviationPercent),
            "minimum_failures": .number(minimumFailures),
        ])
    }
}

extension EndpointPolicy.FailurePercentage {
    fileprivate var document: Document {
        .entries([
            "percent": .number(percent), "minimum_hosts": .number(minimumHosts), "minimum_calls": .number(minimumCalls),
            "minimum_failures": .number(minimumFailures),
        ])
    }
}

extension AdaptiveLimit {
    fileprivate var document: Document {
        .entries([
            "minimum": .number(minimum), "maximum": .number(maximum), "initial": .number(initial),
            "tolerance": .text("\(tolerancePercent)%"),
        ])
    }
}

extension QueueLimits {
    fileprivate var document: Document {
        guard capacity > 0 else { return .text("none") }
        return .entries([
            "capacity": .number(capacity), "longest_wait": .text(duration(longestWait)), "pressure_after": .text(duration(pressureAfter)),
        ])
    }
}

extension RetryBudgetLimits {
    fileprivate var document: Document { .entries(["percent": .number(percent), "minimum": .number(minimum)]) }
}
