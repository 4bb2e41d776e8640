public import Base
public import ProxyConfig

/// Which failed attempts of a route may be made again, how often, and how far apart. Made once, when a snapshot is built.
public struct RetryRules: Hashable, Sendable {
    /// The words of `retry_on`.
    public struct Events: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// Any response of 500 through 599, and whatever ends without a response.
        public static let any5xx = Events(rawValue: 1 << 0)
        /// 502, 503, 504, and whatever ends without a response.
        public static let gatewayError = Events(rawValue: 1 << 1)
        /// Whatever ends without a response: closed, reset, no answer in time.
        public static let reset = Events(rawValue: 1 << 2)
        public static let connectFailure = Events(rawValue: 1 << 3)
        public static let refusedStream = Events(rawValue: 1 << 4)
        /// 409.
        public static let retriable4xx = Events(rawValue: 1 << 5)
        /// The statuses that the policy lists.
        public static let retriableStatusCodes = Events(rawValue: 1 << 6)
        public static let grpcCancelled = Events(rawValue: 1 << 7)
        public static let grpcDeadlineExceeded = Events(rawValue: 1 << 8)
        public static let grpcInternal = Events(rawValue: 1 << 9)
        public static let grpcResourceExhausted = Events(rawValue: 1 << 10)
        public static let grpcUnavailable = Events(rawValue: 1 << 11)

        /// Nil for a word that we do not know.
        public init?(word: some StringProtocol) {
            switch word {
            case "5xx": self = .any5xx
            case "gateway-error": self = .gatewayError
            case "reset": self = .reset
            case "connect-failure": self = .connectFailure
            case "refused-stream": self = .refusedStream
            case "retriable-4xx": self = .retriable4xx
            case "retriable-status-codes": self = .retriableStatusCodes
            case "cancelled": self = .grpcCancelled
            case "deadline-exceeded": self = .grpcDeadlineExceeded
            case "internal": self = .grpcInternal
            case "resource-exhausted": self = .grpcResourceExhausted
            case "unavailable": self = .grpcUnavailable
            default: return nil
            }
        }
    }

    public let events: Events
    public let maxRetries: UInt32
    /// Limits the first attempt too; nil = the request's deadline alone.
    public let perTryTimeout: Nanoseconds?
    public let backoff: RetryBackoff
    /// Only what may be done twice is made again once the endpoint may have begun it. App Mesh does not ask; our own policies do.
    public let needsIdempotence: Bool
    /// A bit for each status of 0 through 511.
    private var statuses = InlineArray<8, UInt64>(repeating: 0)

    public init(
        events: Events, statuses: some Sequence<Int> = [Int](), maxRetries: UInt32, perTryTimeout: Nanoseconds? = nil,
        backoff: RetryBackoff = RetryBackoff(), needsIdempotence: Bool = false
    ) {
        self.events = events
        self.maxRetries = maxRetries
        self.perTryTimeout = perTryTimeout
        self.backoff = backoff
        self.needsIdempotence = needsIdempotence
        for status in statuses where (0..<512).contains(status) { self.statuses[status / 64] |= 1 << UInt64(status % 64) }
    }

    /// Words that we do not know are left out: whoever reads configuration has refused or warned of them.
    public init(_ policy: RetryPolicy) {
        self.init(
            events: policy.retryOn.reduce(into: []) { $0.formUnion(Events(word: $1) ?? []) }, statuses: policy.retriableStatusCodes,
            maxRetries: UInt32(clamping: policy.maxRetries), perTryTimeout: policy.perTryTimeout.map(Nanoseconds.init),
            backoff: RetryBackoff(base: Nanoseconds(policy.backoffBase), longest: Nanoseconds(policy.backoffLongest)),
            needsIdempotence: policy.onlyIdempotent)
    }

    /// What App Mesh gave every route without a policy, and every service that a node provides, without saying so.
    public static let appMeshDefault = RetryRules(
        events: [.grpcUnavailable, .connectFailure, .refusedStream, .retriableStatusCodes, .reset], statuses: [503], maxRetries: 2)

    /// Whether an attempt that ended like this is one of those that the policy names.
    ///
    /// Never one that was refused for overload, here or at the next hop: repeating it feeds the overload, and the hop beside the
    /// endpoint has tried.
    ///
    /// - Parameter status: of the response; 0 if there was none.
    public func covers(_ outcome: AttemptOutcome, status: UInt16) -> Bool {
        switch outcome {
        case .overloadLocal, .overloadRemote, .clientCancel: return false
        case .ok: return covers(status: status)
        case .http5xx, .gateway: return covers(status: status)
        case .grpcError(let code): return covers(grpcCode: code) || covers(status: status)
        case .connectFailure, .connectTimeout: return !events.isDisjoint(with: [.connectFailure, .reset, .any5xx, .gatewayError])
        case .goawayUnprocessed: return !events.isDisjoint(with: [.refusedStream, .reset, .any5xx, .gatewayError])
        // An answer that began can not be taken back; the caller asks only before it did.
        case .timeout, .resetRemote, .resetLocal: return !events.isDisjoint(with: [.reset, .any5xx, .gatewayError])
        }
    }

    private func covers(status: UInt16) -> Bool {
        if events.contains(.any5xx), (500...599).contains(status) { return true }
        if events.contains(.gatewayError), (502...504).contains(status) { return true }
        if events.contains(.retriable4xx), status == 409 { return true }
        return events.contains(.retriableStatusCodes) && status < 512 && statuses[Int(status / 64)] >> UInt64(status % 64) & 1 == 1
    }

    private func covers(grpcCode code: UInt32) -> Bool {
        switch code {
        case 1: events.contains(.grpcCancelled)
        case 4: events.contains(.grpcDeadlineExceeded)
        case 8: events.contains(.grpcResourceExhausted)
        case 13: events.contains(.grpcInternal)
        case 14: events.contains(.grpcUnavailable)
        default: false
        }
    }

    public static func == (left: RetryRules, right: RetryRules) -> Bool {
        guard
            left.events == right.events, left.maxRetries == right.maxRetries, left.perTryTimeout == right.perTryTimeout,
            left.backoff == right.backoff, left.needsIdempotence == right.needsIdempotence
        else { return false }
        return left.statuses.indices.allSatisfy { left.statuses[$0] == right.statuses[$0] }
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(events)
        hasher.combine(maxRetries)
        hasher.combine(perTryTimeout)
        for index in statuses.indices { hasher.combine(statuses[index]) }
    }
}

/// How long a retry waits: at random within a bound that grows (Envoy's, full jitter), but the first one goes at once if it goes to
/// another endpoint. What fails on one endpoint mostly works on the next, and a caller waits for it.
public struct RetryBackoff: Hashable, Sendable {
    public var base: Nanoseconds
    public var longest: Nanoseconds

    public init(base: Nanoseconds = .milliseconds(25), longest: Nanoseconds = .milliseconds(250)) {
        self.base = base
        self.longest = longest
    }

    /// - Parameters:
    ///   - number: 1 for the first retry.
    ///   - isElsewhere: whether an endpoint is left that this request did not try.
    public func delay(before number: UInt32, isElsewhere: Bool, random: inout SeededRandom) -> Nanoseconds {
        if number <= 1, isElsewhere { return .zero }
        let steps = Int64(1) << Int64(min(max(number, 1), 30)) - 1
        let (product, overflow) = base.count.multipliedReportingOverflow(by: steps)
        let bound = overflow ? longest.count : min(product, longest.count)
        return bound > 0 ? Nanoseconds(count: Int64(random.next().multipliedFullWidth(by: UInt64(bound)).high)) : .zero
    }
}
