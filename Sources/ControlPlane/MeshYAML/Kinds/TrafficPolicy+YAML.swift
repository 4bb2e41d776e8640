import Base
import MeshModel
import ProxyConfig

// Limits of numbers: what no mesh needs more of, far below where sums could overflow.
private let counts = 1...1_000_000

extension TrafficPolicy {
    init?(_ meta: ResourceMeta, _ spec: ObjectReader) {
        let target = spec.required("targetRef", .object(Target.init))
        let callers = spec.list("callers", of: .object(Caller.init), count: 1...1000)
        let resilience = spec.optional("resilience", .oneOf(ResilienceWord.allCases))
        let balancing = spec.optional("loadBalancing", .object(Balancing.init))
        let endpointBreaker = spec.orNone("endpointBreaker", .object(EndpointPolicy.init))
        let serviceBreaker = spec.orNone("serviceBreaker", .object { BreakerPolicy($0, standard: .ofService) })
        let limits = spec.optional("limits", .object(Limits.init))
        let retries = spec.orNone("retries", .object(Retries.init))
        let timeout = spec.orNone("timeout", .positiveDuration)
        let callee = target?.kind == .virtualNode && callers.isEmpty
        let rateLimit = spec.orNone("rateLimit", .object { RateLimit($0, side: callee ? .callee : .caller) })
        let fault = spec.orNone("fault", .object(Fault.init))
        let mirrors = spec.orNone("mirror", .list(of: .object(Mirror.init), count: 1...5))
        let headers = spec.optional("headers", .object(Self.headers))
        guard let target else { return nil }
        self.init(
            meta: meta, target: target, callers: callers, isStandard: resilience == .standard, balancing: balancing,
            endpointBreaker: endpointBreaker, serviceBreaker: serviceBreaker, limits: limits, retries: retries, timeout: timeout,
            rateLimit: rateLimit, fault: fault, mirrors: mirrors, requestHeaders: headers?.request ?? HeaderChanges(),
            responseHeaders: headers?.response ?? HeaderChanges())
        checkTarget(spec)
        if !spec.field.log.hasErrors, parts.isEmpty {
            spec.problem(.mismatch(expected: "resilience, or one of \(Self.partNames)", found: "none"))
        }
    }

    private enum ResilienceWord: String, CaseIterable {
        case standard
    }

    private static var partNames: String { Part.allCases.map(\.rawValue).joined(separator: ", ") }

    /// A cluster is of a node and shared by routes: what is said of it cannot be said of one route.
    private func checkTarget(_ spec: ObjectReader) {
        if target.kind == .virtualNode || target.kind == .virtualService, target.route == nil { return }
        let place = target.route == nil ? "a \(target.kind.rawValue)" : "one route"
        let expected = "nothing with \(place): it is of a VirtualNode or a VirtualService as a whole"
        if isStandard { spec.problem(at: ["resilience"], .mismatch(expected: expected, found: "standard")) }
        for part in Part.allCases where part.isOfCluster && spec.has(part.rawValue) {
            spec.problem(at: [part.rawValue], .mismatch(expected: expected, found: "a mapping"))
        }
        if case .on(let retries) = retries, retries.budget != nil {
            spec.problem(at: ["retries", "budget"], .mismatch(expected: expected, found: "a mapping"))
        }
    }
}

extension TrafficPolicy.Target {
    init?(_ object: ObjectReader) {
        let kind = object.required("kind", .oneOf(Kind.allCases))
        let reference = ObjectReference(object)
        let route = object.optional("route", .name)
        guard let kind, let reference else { return nil }
        self.init(kind: kind, reference: reference, route: route)
        if route != nil, kind == .virtualNode || kind == .gatewayRoute {
            object.problem(at: ["route"], .mismatch(expected: "nothing with \(kind.rawValue)", found: "a name"))
        }
    }
}

extension TrafficPolicy.Caller {
    init?(_ object: ObjectReader) {
        let kind = object.optional("kind", .oneOf(Kind.allCases)) ?? .virtualNode
        guard let reference = ObjectReference(object) else { return nil }
        self.init(kind: kind, reference: reference)
    }
}

// MARK: Values

extension FieldType where Value == UInt32 {
    fileprivate static func count(_ range: ClosedRange<Int> = counts) -> FieldType {
        let type = FieldType<Int>.integer(range)
        return FieldType(type.expected) { type.read($0).map(UInt32.init) }
    }

    fileprivate static var percent: FieldType { count(1...100) }
}

extension FieldType where Value == Share {
    /// To a ten-thousandth of a percent.
    fileprivate static var percent: FieldType {
        .scalar("a percentage above 0, through 100") { scalar in
            let percent: Double?
            switch scalar {
            case .integer(let number): percent = Double(number)
            case .number(let text): percent = Double(text)
            case .null, .bool, .string: percent = nil
            }
            guard let percent, percent <= 100, percent * 10_000 >= 1 else { return nil }
            return Share(percent: percent)
        }
    }
}

extension FieldType where Value == Ramp {
    /// `10s`, or `{duration: 10s, startPercent: 10}`.
    fileprivate static var ramp: FieldType {
        FieldType("a duration, or {duration: 10s, startPercent: 10}") { field in
            guard field.node.entries != nil, field.node["unit"] == nil else {
                return FieldType<Duration>.positiveDuration.read(field).map { Ramp(duration: $0) }
            }
            return FieldType.object { object in
                let duration = object.required("duration", .positiveDuration)
                let start = object.optional("startPercent", .percent) ?? 10
                return duration.map { Ramp(duration: $0, startPercent: start) }
            }.read(field)
        }
    }
}

extension ObjectReader {
    /// A value, or the word `none`.
    fileprivate func orNone<Value: Hashable & Sendable>(_ key: String, _ type: FieldType<Value>) -> TrafficPolicy.Setting<Value>? {
        optional(
            key,
            FieldType<TrafficPolicy.Setting<Value>>("\(type.expected), or none") { field in
                if case .string("none") = field.node.scalar { return .off }
                return type.read(field).map { .on($0) }
            })
    }

    /// What the field says, or what `standard` does where it is absent; nil = none.
    fileprivate func setting<Value: Hashable & Sendable>(_ key: String, _ type: FieldType<Value>, _ standard: Value?) -> Value? {
        orNone(key, type).map(\.value) ?? standard
    }
}

// MARK: Load balancing

extension TrafficPolicy.Balancing {
    private enum Word: String, CaseIterable {
        case roundRobin = "ROUND_ROBIN"
        case leastRequest = "LEAST_REQUEST"
        case random = "RANDOM"
        case peakEWMA = "PEAK_EWMA"
        case ringHash = "RING_HASH"
        case maglev = "MAGLEV"

        var policy: LoadBalancing {
            switch self {
            case .roundRobin: .roundRobin
            case .leastRequest: .leastRequest
            case .random: .random
            case .peakEWMA: .peakEWMA
            case .ringHash: .ringHash
            case .maglev: .maglev
            }
        }
    }

    init?(_ object: ObjectReader) {
        let policy = object.required("policy", .oneOf(Word.allCases))?.policy
        let hashKeys = object.list("hashOn", of: .hashKey, count: 1...4)
        var options = BalancingOptions()
        options.hashBoundPercent = object.optional("boundPercent", .count(101...10_000))
        options.latencyHalfLife = object.optional("halfLife", .positiveDuration) ?? options.latencyHalfLife
        options.preferredZoneSize = object.optional(
            "preferZone", .object { $0.optional("minimumHosts", .count()) ?? 2 })
        options.slowStart = object.optional("slowStart", .ramp) ?? .none
        guard let policy else { return nil }
        self.init(policy: policy, options: options, hashKeys: hashKeys)
        let hashes = policy == .ringHash || policy == .maglev
        for key in ["hashOn", "boundPercent"] where object.has(key) && !hashes {
            object.problem(at: [key], .mismatch(expected: "nothing but with RING_HASH and MAGLEV", found: "a value"))
        }
        if object.has("halfLife"), policy != .peakEWMA {
            object.problem(at: ["halfLife"], .mismatch(expected: "nothing but with PEAK_EWMA", found: "a value"))
        }
        if hashes, !object.has("hashOn") { object.missing("hashOn", "what the hash is of") }
    }
}

extension FieldType where Value == HashKey {
    /// `{header: x-user}`, `{cookie: id}`, `sourceAddress`.
    fileprivate static var hashKey: FieldType {
        FieldType("{header: NAME}, {cookie: NAME} or sourceAddress") { field in
            if case .string("sourceAddress") = field.node.scalar { return .sourceAddress }
            guard field.node.entries != nil else {
                field.expected("{header: NAME}, {cookie: NAME} or sourceAddress")
                return nil
            }
            return FieldType.object {
                $0.exactlyOne([.init("header", .headerName) { .header($0) }, .init("cookie", .string(1...256)) { .cookie($0) }])
            }.read(field)
        }
    }
}

// MARK: Breakers

extension BreakerPolicy {
    fileprivate static let ofService = BreakerPolicy()
    fileprivate static let ofEndpoint = ResiliencePolicy.standard.endpoint?.breaker ?? BreakerPolicy()

    /// What is not said is `standard`'s.
    init?(_ object: ObjectReader, standard: BreakerPolicy) {
        self = standard
        if let observe = object.optional("observe", .bool) { mode = observe ? .observe : .enforce }
        trip.consecutiveErrors = object.setting("consecutiveErrors", .count(), trip.consecutiveErrors)
        trip.failurePercent = object.setting("failurePercent", .percent, trip.failurePercent)
        trip.slowPercent = object.setting("slowPercent", .percent, trip.slowPercent)
        trip.slowCall = object.optional("slowCall", .positiveDuration) ?? trip.slowCall
        trip.window = object.optional("window", .object(Trip.Window.read)) ?? trip.window
        if case .calls(let calls) = trip.window { trip.minimumCalls = min(trip.minimumCalls, calls) }
        trip.minimumCalls = object.optional("minimumCalls", .count()) ?? trip.minimumCalls
        open = object.optional("openTime", .object { Open($0, standard: standard.open) }) ?? open
        switch object.orNone("probes", .object(Probe.Calls.init)) {
        case .on(let calls): probe = .calls(calls)
        case .off: probe = .none
        case nil: break
        }
        ramp = object.setting("ramp", .ramp, ramp) ?? .none
        if trip.consecutiveErrors == nil, trip.failurePercent == nil, trip.slowPercent == nil {
            object.problem(.mismatch(expected: "one of consecutiveErrors, failurePercent, slowPercent", found: "none"))
        }
        if case .calls(let calls) = trip.window, trip.minimumCalls > calls {
            object.problem(
                at: ["minimumCalls"], .mismatch(expected: "at most the \(calls) calls of the window", found: "\(trip.minimumCalls)"))
        }
    }
}

extension BreakerPolicy.Trip.Window {
    fileprivate static func read(_ object: ObjectReader) -> Self? {
        object.exactlyOne([
            .init("calls", .count(10...65_535)) { .calls($0) }, .init("duration", .positiveDuration) { .time($0) },
        ])
    }
}

extension BreakerPolicy.Open {
    init?(_ object: ObjectReader, standard: Self) {
        let base = object.optional("base", .positiveDuration) ?? standard.base
        let longest = object.optional("longest", .positiveDuration) ?? max(standard.longest, base)
        let growth = object.optional("growthPercent", .count(100...1000))
        let jitter = object.optional("jitterPercent", .count(0...100)) ?? standard.jitterPercent
        self.init(
            base: base, longest: longest, backoff: growth.map { .exponential(percent: $0) } ?? standard.backoff, jitterPercent: jitter)
        if longest < base {
            object.problem(at: ["longest"], .mismatch(expected: "at least base", found: "less"))
        }
    }
}

extension BreakerPolicy.Probe.Calls {
    init?(_ object: ObjectReader) {
        self.init()
        count = object.optional("count", .count(1...255)) ?? count
        concurrency = object.optional("concurrency", .count(1...255)) ?? concurrency
        successPercent = object.optional("successPercent", .percent) ?? successPercent
        longestWait = object.optional("longestWait", .positiveDuration) ?? longestWait
    }
}

extension EndpointPolicy {
    /// What is not said is the standard policy's.
    init?(_ object: ObjectReader) {
        guard let breaker = BreakerPolicy(object, standard: .ofEndpoint), let standard = ResiliencePolicy.standard.endpoint else {
            return nil
        }
        self = standard
        self.breaker = breaker
        interval = object.optional("interval", .positiveDuration) ?? interval
        maxEjectionPercent = object.optional("maxEjectionPercent", .count(0...100)) ?? maxEjectionPercent
        minimumDeviationPercent = object.optional("minimumDeviationPercent", .count(0...100)) ?? minimumDeviationPercent
        connectionProbeInterval = object.setting("connectionProbeInterval", .positiveDuration, connectionProbeInterval)
        successRate = object.optional("successRate", .object(SuccessRate.init))
        failurePercentage = object.optional("failurePercentage", .object(FailurePercentage.init))
    }
}

extension EndpointPolicy.SuccessRate {
    init?(_ object: ObjectReader) {
        self.init()
        deviationThousandths = object.optional("deviationThousandths", .count(100...100_000)) ?? deviationThousandths
        minimumHosts = object.optional("minimumHosts", .count()) ?? minimumHosts
        minimumCalls = object.optional("minimumCalls", .count()) ?? minimumCalls
        minimumDeviationPercent = object.optional("minimumDeviationPercent", .count(0...100)) ?? minimumDeviationPercent
        minimumFailures = object.optional("minimumFailures", .count()) ?? minimumFailures
    }
}

extension EndpointPolicy.FailurePercentage {
    init?(_ object: ObjectReader) {
        self.init()
        percent = object.optional("percent", .percent) ?? percent
        minimumHosts = object.optional("minimumHosts", .count()) ?? minimumHosts
        minimumCalls = object.optional("minimumCalls", .count()) ?? minimumCalls
        minimumFailures = object.optional("minimumFailures", .count()) ?? minimumFailures
    }
}

// MARK: Limits

extension TrafficPolicy.Limits {
    init?(_ object: ObjectReader) {
        self.init(
            maxConnections: object.optional("maxConnections", .count()),
            maxPendingRequests: object.optional("maxPendingRequests", .count()),
            maxRequests: object.optional("maxRequests", .count()),
            adaptive: object.orNone("adaptive", .object(AdaptiveLimit.init)),
            queue: object.orNone("queue", .object(QueueLimits.init)))
    }
}

extension AdaptiveLimit {
    init?(_ object: ObjectReader) {
        self.init()
        minimum = object.optional("minimum", .count()) ?? minimum
        maximum = object.optional("maximum", .count()) ?? max(maximum, minimum)
        initial = object.optional("initial", .count()) ?? min(max(initial, minimum), max(minimum, maximum))
        tolerancePercent = object.optional("tolerancePercent", .count(0...10_000)) ?? tolerancePercent
        if maximum < minimum { object.problem(at: ["maximum"], .mismatch(expected: "at least minimum (\(minimum))", found: "\(maximum)")) }
        if maximum >= minimum, !(minimum...maximum).contains(initial) {
            object.problem(
                at: ["initial"], .mismatch(expected: "minimum (\(minimum)) through maximum (\(maximum))", found: "\(initial)"))
        }
    }
}

extension QueueLimits {
    init?(_ object: ObjectReader) {
        self.init()
        capacity = object.optional("capacity", .count(1...100_000)) ?? capacity
        longestWait = object.optional("longestWait", .positiveDuration) ?? longestWait
        pressureAfter = object.optional("pressureAfter", .positiveDuration) ?? pressureAfter
    }
}

extension TrafficPolicy.RateLimit {
    init?(_ object: ObjectReader, side standard: Side) {
        let requests = object.required("requests", .count())
        let interval = object.optional("per", .positiveDuration) ?? .seconds(1)
        let burst = object.optional("burst", .count())
        let side = object.optional("side", .oneOf(Side.allCases)) ?? standard
        guard let requests else { return nil }
        self.init(limit: LocalRateLimit(burst: burst ?? requests, requests: requests, interval: interval), side: side)
        if side == .callee, standard == .caller {
            let expected = "caller, but for a VirtualNode and without callers: the called side does not know what it was called as"
            object.problem(at: ["side"], .mismatch(expected: expected, found: "callee"))
        }
    }
}

// MARK: Retries

extension TrafficPolicy.Retries {
    init?(_ object: ObjectReader) {
        var policy = RetryPolicy.standard
        if let events = object.optional("on", .list(of: .retryEvent, count: 1...30)) {
            policy.retryOn = events.compactMap(\.word)
            policy.retriableStatusCodes = events.compactMap(\.status)
            if !policy.retriableStatusCodes.isEmpty { policy.retryOn.append("retriable-status-codes") }
        }
        policy.maxRetries = object.optional("maxRetries", .integer(1...20)) ?? policy.maxRetries
        policy.perTryTimeout = object.setting("perTryTimeout", .positiveDuration, policy.perTryTimeout)
        policy.onlyIdempotent = object.optional("onlyIdempotent", .bool) ?? policy.onlyIdempotent
        _ = object.optional(
            "backoff",
            FieldType<Bool>.object { backoff in
                policy.backoffBase = backoff.optional("base", .positiveDuration) ?? policy.backoffBase
                policy.backoffLongest = backoff.optional("longest", .positiveDuration) ?? max(policy.backoffLongest, policy.backoffBase)
                if policy.backoffLongest < policy.backoffBase {
                    backoff.problem(at: ["longest"], .mismatch(expected: "at least base", found: "less"))
                }
                return true
            })
        self.init(policy: policy)
        budget = object.optional(
            "budget",
            .object {
                RetryBudgetLimits(
                    percent: $0.optional("percent", .count(0...100)) ?? 20, minimum: $0.optional("minimum", .count(0...1000)) ?? 3)
            })
        hedging = object.optional(
            "hedge",
            .object { hedge in
                let attempts = hedge.optional("maxAttempts", .count(1...5)) ?? 1
                return hedge.required("after", .positiveDuration).map { Hedging(delay: $0, maxAttempts: attempts) }
            })
    }
}

/// One entry of `retries.on`.
private enum RetryEvent {
    case event(String)
    case code(Int)

    static let words = [
        "5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "retriable-4xx", "cancelled", "deadline-exceeded", "internal",
        "resource-exhausted", "unavailable",
    ]

    var word: String? { if case .event(let word) = self { word } else { nil } }
    var status: Int? { if case .code(let code) = self { code } else { nil } }
}

extension FieldType where Value == RetryEvent {
    fileprivate static var retryEvent: FieldType {
        .scalar("a status from 400 through 599, or one of \(RetryEvent.words.joined(separator: ", "))") { scalar in
            switch scalar {
            case .integer(let code) where (400...599).contains(code): .code(code)
            case .string(let word) where RetryEvent.words.contains(word): .event(word)
            default: nil
            }
        }
    }
}

// MARK: Faults, mirrors, headers

extension TrafficPolicy.Fault {
    init?(_ object: ObjectReader) {
        var injection = FaultInjection()
        _ = object.optional(
            "delay",
            FieldType<Bool>.object { delay in
                injection.delay = delay.required("fixed", .positiveDuration)
                injection.delayShare = delay.required("percent", .percent) ?? .all
                return true
            })
        _ = object.optional(
            "abort",
            FieldType<Bool>.object { abort in
                injection.abort = abort.exactlyOne([
                    .init("httpStatus", .integer(200...599)) { .http(status: $0) }, .init("grpcStatus", .grpcStatus) { .grpc(code: $0) },
                ])
                injection.abortShare = abort.required("percent", .percent) ?? .all
                return true
            })
        let headers = object.list("headers", of: .object(HeaderMatch.init), count: 1...10)
        self.init(injection: injection, headers: headers)
        if !object.has("delay"), !object.has("abort") { object.problem(.mismatch(expected: "delay, abort or both", found: "neither")) }
    }
}

extension FieldType where Value == UInt32 {
    /// google.rpc.Code by name or number, without OK.
    fileprivate static var grpcStatus: FieldType {
        let names = [
            "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
            "DATA_LOSS", "UNAUTHENTICATED",
        ]
        return .scalar("a gRPC status from 1 through 16, or its name such as UNAVAILABLE") { scalar in
            switch scalar {
            case .integer(let code) where (1...names.count).contains(code): UInt32(code)
            case .string(let name): names.firstIndex(of: name).map { UInt32($0 + 1) }
            default: nil
            }
        }
    }
}

extension TrafficPolicy.Mirror {
    init?(_ object: ObjectReader) {
        let node = object.required("virtualNode", .object(ObjectReference.init))
        let port = object.optional("port", .port)
        let share = object.optional("percent", .percent) ?? .all
        guard let node else { return nil }
        self.init(virtualNode: node, port: port, share: share)
    }
}

extension TrafficPolicy {
    fileprivate static func headers(_ object: ObjectReader) -> (request: HeaderChanges, response: HeaderChanges)? {
        (
            object.optional("request", .object(HeaderChanges.init)) ?? HeaderChanges(),
            object.optional("response", .object(HeaderChanges.init)) ?? HeaderChanges()
        )
    }
}

extension HeaderChanges {
    init?(_ object: ObjectReader) {
        self.init(
            remove: object.list("remove", of: .changeableHeader, count: 1...50), set: object.optional("set", .headerFields) ?? [],
            add: object.optional("add", .headerFields) ?? [])
        if isEmpty { object.problem(.mismatch(expected: "set, add or remove", found: "none")) }
    }
}

extension FieldType where Value == String {
    /// In lower case.
    fileprivate static var headerName: FieldType {
        .text("the name of a header") { HeaderChanges.isName($0.lowercased()) ? $0.lowercased() : nil }
    }

    fileprivate static var changeableHeader: FieldType {
        .text(changeable) { HeaderChanges.mayChange($0.lowercased()) ? $0.lowercased() : nil }
    }

    fileprivate static var changeable: String { "the name of a header that neither frames the message nor belongs to one hop" }

    fileprivate static var headerValue: FieldType {
        let expected = "a value of at most 4096 bytes, without control characters and without blanks at its ends"
        return .text(expected) { HeaderChanges.isValue($0) && $0.utf8.count <= 4096 ? $0 : nil }
    }
}

extension FieldType where Value == [HeaderChanges.Field] {
    /// A mapping of names to values; in the order of names, since a mapping has none.
    fileprivate static var headerFields: FieldType {
        FieldType("a mapping of header names to values") { field in
            guard let object = ObjectReader(field) else { return nil }
            let entries = object.allEntries(.headerValue)
            for name in entries.keys.sorted() where !HeaderChanges.mayChange(name.lowercased()) {
                object.problem(at: [name], .mismatch(expected: FieldType<String>.changeable, found: name))
            }
            return entries.map { HeaderChanges.Field(name: $0.key.lowercased(), value: $0.value) }
                .sorted { ($0.name, $0.value) < ($1.name, $1.value) }
        }
    }
}
