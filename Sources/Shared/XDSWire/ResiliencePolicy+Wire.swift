import Base
import ProxyConfig

/// What a cluster's `filter_metadata["outrigger"]` may say. Other proxies do not see it.
enum ClusterExtensionKey: String, ObjectKey {
    case tls_enforced
    /// A policy that xDS has no number for; in place of `lb_policy`, which then has the nearest one.
    case lb_policy
    case latency_half_life
    /// For the policies whose own configuration has no place for it.
    case slow_start
    case resilience
}

/// `resilience`: ProxyConfig's `ResiliencePolicy`, but for the retry budget, which has a field (`circuit_breakers`).
enum ResilienceKey: String, ObjectKey {
    case endpoint, service, limiter, queue
}

extension ObjectWriter<ResilienceKey> {
    mutating func write(_ policy: ResiliencePolicy) {
        if let endpoint = policy.endpoint { object(.endpoint, EndpointPolicyKey.self) { $0.write(endpoint) } }
        if let service = policy.service { object(.service, BreakerKey.self) { $0.write(service) } }
        if let limiter = policy.limiter { object(.limiter, LimiterKey.self) { $0.write(limiter) } }
        object(.queue, QueueKey.self) { $0.write(policy.queue) }
    }
}

extension ObjectReader<ResilienceKey> {
    func policy(retryBudget: RetryBudgetLimits?) -> ResiliencePolicy {
        ResiliencePolicy(
            endpoint: object(.endpoint, EndpointPolicyKey.self)?.policy(), service: object(.service, BreakerKey.self)?.breaker(),
            limiter: object(.limiter, LimiterKey.self)?.limit(), queue: object(.queue, QueueKey.self)?.limits() ?? QueueLimits(),
            retryBudget: retryBudget ?? RetryBudgetLimits())
    }
}

// MARK: Endpoints

enum EndpointPolicyKey: String, ObjectKey {
    case breaker, interval, max_ejection_percent, minimum_deviation_percent, success_rate, failure_percentage, connection_probe_interval
}

enum SuccessRateKey: String, ObjectKey {
    case deviation_thousandths, minimum_hosts, minimum_calls, minimum_deviation_percent, minimum_failures
}

enum FailurePercentageKey: String, ObjectKey {
    case percent, minimum_hosts, minimum_calls, minimum_failures
}

extension ObjectWriter<EndpointPolicyKey> {
    mutating func write(_ policy: EndpointPolicy) {
        object(.breaker, BreakerKey.self) { $0.write(policy.breaker) }
        duration(.interval, policy.interval)
        number(.max_ejection_percent, policy.maxEjectionPercent)
        number(.minimum_deviation_percent, policy.minimumDeviationPercent)
        if let rate = policy.successRate {
            object(.success_rate, SuccessRateKey.self) {
                $0.number(.deviation_thousandths, rate.deviationThousandths)
                $0.number(.minimum_hosts, rate.minimumHosts)
                $0.number(.minimum_calls, rate.minimumCalls)
                $0.number(.minimum_deviation_percent, rate.minimumDeviationPercent)
                $0.number(.minimum_failures, rate.minimumFailures)
            }
        }
        if let failures = policy.failurePercentage {
            object(.failure_percentage, FailurePercentageKey.self) {
                $0.number(.percent, failures.percent)
                $0.number(.minimum_hosts, failures.minimumHosts)
                $0.number(.minimum_calls, failures.minimumCalls)
                $0.number(.minimum_failures, failures.minimumFailures)
            }
        }
        duration(.connection_probe_interval, policy.connectionProbeInterval)
    }
}

extension ObjectReader<EndpointPolicyKey> {
    /// What is not said is the initializer's default.
    fileprivate func policy() -> EndpointPolicy {
        if !has(.breaker) { fail(.breaker, expected: "a value", found: "nothing") }
        var policy = EndpointPolicy(breaker: object(.breaker, BreakerKey.self)?.breaker() ?? BreakerPolicy())
        policy.interval = duration(.interval) ?? policy.interval
        policy.maxEjectionPercent = number(.max_ejection_percent, in: 0...100) ?? policy.maxEjectionPercent
        policy.minimumDeviationPercent = number(.minimum_deviation_percent, in: 0...100) ?? policy.minimumDeviationPercent
        policy.connectionProbeInterval = duration(.connection_probe_interval)
        if let rate = object(.success_rate, SuccessRateKey.self) {
            var value = EndpointPolicy.SuccessRate()
            value.deviationThousandths = rate.number(.deviation_thousandths) ?? value.deviationThousandths
            value.minimumHosts = rate.number(.minimum_hosts) ?? value.minimumHosts
            value.minimumCalls = rate.number(.minimum_calls) ?? value.minimumCalls
            value.minimumDeviationPercent = rate.number(.minimum_deviation_percent, in: 0...100) ?? value.minimumDeviationPercent
            value.minimumFailures = rate.number(.minimum_failures) ?? value.minimumFailures
            policy.successRate = value
        }
        if let failures = object(.failure_percentage, FailurePercentageKey.self) {
            var value = EndpointPolicy.FailurePercentage()
            value.percent = failures.number(.percent, in: 1...100) ?? value.percent
            value.minimumHosts = failures.number(.minimum_hosts) ?? value.minimumHosts
            value.minimumCalls = failures.number(.minimum_calls) ?? value.minimumCalls
            value.minimumFailures = failures.number(.minimum_failures) ?? value.minimumFailures
            policy.failurePercentage = value
        }
        return policy
    }
}

// MARK: Breakers

enum BreakerKey: String, ObjectKey {
    case mode
    case consecutive_errors, failure_percent, slow_percent, slow_call, minimum_calls
    /// One of both.
    case window_duration, window_calls
    case open_base, open_longest, open_jitter_percent
    /// Missing: each time in a row is longer by the first one.
    case open_growth_percent
    /// Missing: none are made.
    case probes
    case ramp
}

enum ProbesKey: String, ObjectKey {
    case count, concurrency, success_percent, longest_wait
}

enum RampKey: String, ObjectKey {
    case duration, start_percent
}

/// Its words on the wire.
private enum ModeWord: String, CaseIterable {
    case enforce, observe
}

extension ObjectWriter<BreakerKey> {
    fileprivate mutating func write(_ policy: BreakerPolicy) {
        switch policy.mode {
        case .enforce: text(.mode, ModeWord.enforce.rawValue)
        case .observe: text(.mode, ModeWord.observe.rawValue)
        }
        number(.consecutive_errors, policy.trip.consecutiveErrors)
        number(.failure_percent, policy.trip.failurePercent)
        number(.slow_percent, policy.trip.slowPercent)
        duration(.slow_call, policy.trip.slowCall)
        switch policy.trip.window {
        case .time(let length): duration(.window_duration, length)
        case .calls(let count): number(.window_calls, count)
        }
        number(.minimum_calls, policy.trip.minimumCalls)
        duration(.open_base, policy.open.base)
        duration(.open_longest, policy.open.longest)
        switch policy.open.backoff {
        case .linear: break
        case .exponential(let percent): number(.open_growth_percent, percent)
        }
        number(.open_jitter_percent, policy.open.jitterPercent)
        switch policy.probe {
        case .none: break
        case .calls(let calls):
            object(.probes, ProbesKey.self) {
                $0.number(.count, calls.count)
                $0.number(.concurrency, calls.concurrency)
                $0.number(.success_percent, calls.successPercent)
                $0.duration(.longest_wait, calls.longestWait)
            }
        }
        if policy.ramp != .none { object(.ramp, RampKey.self) { $0.write(policy.ramp) } }
    }
}

extension ObjectReader<BreakerKey> {
    fileprivate func breaker() -> BreakerPolicy {
        let mode: BreakerPolicy.Mode = word(.mode, ModeWord.self) == .observe ? .observe : .enforce
        return BreakerPolicy(
            mode: mode, trip: trip(), open: open(), probe: probe(), ramp: object(.ramp, RampKey.self)?.ramp() ?? .none)
    }

    private func trip() -> BreakerPolicy.Trip {
        var trip = BreakerPolicy.Trip()
        trip.consecutiveErrors = number(.consecutive_errors, in: 1...UInt32.max)
        trip.failurePercent = number(.failure_percent, in: 1...100)
        trip.slowPercent = number(.slow_percent, in: 1...100)
        trip.slowCall = duration(.slow_call) ?? trip.slowCall
        trip.minimumCalls = number(.minimum_calls, in: 1...UInt32.max) ?? trip.minimumCalls
        if has(.window_calls), has(.window_duration) {
            fail(.window_calls, expected: "one window", found: "window_duration too")
        }
        if let calls = number(.window_calls, in: 1...UInt32.max) {
            trip.window = .calls(calls)
        } else if let length = duration(.window_duration) {
            trip.window = .time(length)
        }
        return trip
    }

    private func open() -> BreakerPolicy.Open {
        var open = BreakerPolicy.Open(base: requiredDuration(.open_base) ?? .seconds(1))
        open.longest = duration(.open_longest) ?? max(open.longest, open.base)
        if open.longest < open.base {
            fail(.open_longest, expected: "at least open_base (\(durationText(open.base)))", found: durationText(open.longest))
        }
        open.backoff = number(.open_growth_percent, in: 100...1000).map { .exponential(percent: $0) } ?? .linear
        open.jitterPercent = number(.open_jitter_percent, in: 0...100) ?? open.jitterPercent
        return open
    }

    private func probe() -> BreakerPolicy.Probe {
        guard let probes = object(.probes, ProbesKey.self) else { return .none }
        var calls = BreakerPolicy.Probe.Calls()
        calls.count = probes.number(.count, in: 1...255) ?? calls.count
        calls.concurrency = probes.number(.concurrency, in: 1...UInt32.max) ?? calls.concurrency
        calls.successPercent = probes.number(.success_percent, in: 1...100) ?? calls.successPercent
        calls.longestWait = probes.duration(.longest_wait) ?? calls.longestWait
        return .calls(calls)
    }
}

extension ObjectWriter<RampKey> {
    mutating func write(_ ramp: Ramp) {
        duration(.duration, ramp.duration)
        number(.start_percent, ramp.startPercent)
    }
}

extension ObjectReader<RampKey> {
    func ramp() -> Ramp {
        Ramp(duration: requiredDuration(.duration) ?? .zero, startPercent: number(.start_percent, in: 1...100) ?? 10)
    }
}

// MARK: Limits

enum LimiterKey: String, ObjectKey {
    case minimum, maximum, initial, tolerance_percent
}

enum QueueKey: String, ObjectKey {
    case capacity, longest_wait, pressure_after
}

extension ObjectWriter<LimiterKey> {
    fileprivate mutating func write(_ limit: AdaptiveLimit) {
        number(.minimum, limit.minimum)
        number(.maximum, limit.maximum)
        number(.initial, limit.initial)
        number(.tolerance_percent, limit.tolerancePercent)
    }
}

extension ObjectReader<LimiterKey> {
    fileprivate func limit() -> AdaptiveLimit {
        var limit = AdaptiveLimit()
        limit.minimum = number(.minimum, in: 1...UInt32.max) ?? limit.minimum
        limit.maximum = number(.maximum, in: 1...UInt32.max) ?? limit.maximum
        limit.initial = number(.initial, in: 1...UInt32.max) ?? limit.initial
        limit.tolerancePercent = number(.tolerance_percent) ?? limit.tolerancePercent
        if limit.maximum < limit.minimum { fail(.maximum, expected: "at least minimum (\(limit.minimum))", found: limit.maximum) }
        if limit.maximum >= limit.minimum, !(limit.minimum...limit.maximum).contains(limit.initial) {
            fail(.initial, expected: "a number from minimum (\(limit.minimum)) through maximum (\(limit.maximum))", found: limit.initial)
        }
        return limit
    }
}

extension ObjectWriter<QueueKey> {
    fileprivate mutating func write(_ limits: QueueLimits) {
        number(.capacity, limits.capacity)
        duration(.longest_wait, limits.longestWait)
        duration(.pressure_after, limits.pressureAfter)
    }
}

extension ObjectReader<QueueKey> {
    fileprivate func limits() -> QueueLimits {
        var limits = QueueLimits()
        limits.capacity = number(.capacity) ?? limits.capacity
        limits.longestWait = duration(.longest_wait) ?? limits.longestWait
        limits.pressureAfter = duration(.pressure_after) ?? limits.pressureAfter
        return limits
    }
}
