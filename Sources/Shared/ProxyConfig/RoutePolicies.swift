/// A part of the requests (envoy.type.v3.FractionalPercent).
public struct Share: Hashable, Sendable {
    /// 0 through 1,000,000.
    public var millionths: UInt32

    public static let all = Share(millionths: 1_000_000)

    public init(millionths: UInt32) {
        self.millionths = min(millionths, 1_000_000)
    }

    public init(percent: Double) {
        self.init(millionths: UInt32((min(max(percent, 0), 100) * 10_000).rounded()))
    }

    public var percent: Double { Double(millionths) / 10_000 }
}

/// What is changed in a head on its way (Route.request_headers_to_add, response_headers_to_remove, ...): first removed, then set, then
/// added.
public struct HeaderChanges: Hashable, Sendable {
    public struct Field: Hashable, Sendable {
        /// In lower case; no pseudo header, and none that frames a message or belongs to one hop.
        public var name: String
        public var value: String

        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    public var remove: [String]
    /// In place of all of that name (OVERWRITE_IF_EXISTS_OR_ADD).
    public var set: [Field]
    /// Beside what is there (APPEND_IF_EXISTS_OR_ADD).
    public var add: [Field]

    public var isEmpty: Bool { remove.isEmpty && set.isEmpty && add.isEmpty }

    public init(remove: [String] = [], set: [Field] = [], add: [Field] = []) {
        self.remove = remove
        self.set = set
        self.add = add
    }
}

/// Trouble made on purpose (envoy.extensions.filters.http.fault.v3.HTTPFault), before the request goes anywhere.
public struct FaultInjection: Hashable, Sendable {
    public enum Abort: Hashable, Sendable {
        /// 200 through 599.
        case http(status: Int)
        case grpc(code: UInt32)
    }

    /// A request waits so long, and then goes on.
    public var delay: Duration?
    public var delayShare: Share
    public var abort: Abort?
    public var abortShare: Share
    /// Only requests that all of these hold for.
    public var headers: [HeaderMatcher]

    public init(
        delay: Duration? = nil, delayShare: Share = .all, abort: Abort? = nil, abortShare: Share = .all, headers: [HeaderMatcher] = []
    ) {
        self.delay = delay
        self.delayShare = delayShare
        self.abort = abort
        self.abortShare = abortShare
        self.headers = headers
    }
}

/// So many requests in a time, and a burst (envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit). For the whole process.
public struct LocalRateLimit: Hashable, Sendable {
    /// token_bucket.max_tokens: at most so many at once; at least 1.
    public var burst: UInt32
    /// tokens_per_fill in each `interval`; at least 1.
    public var requests: UInt32
    /// fill_interval.
    public var interval: Duration

    public init(burst: UInt32, requests: UInt32, interval: Duration = .seconds(1)) {
        self.burst = burst
        self.requests = requests
        self.interval = interval
    }
}

/// A copy of a share of the requests, whose answer nobody sees (RouteAction.request_mirror_policies).
public struct RequestMirror: Hashable, Sendable {
    public var cluster: String
    public var share: Share

    public init(cluster: String, share: Share = .all) {
        self.cluster = cluster
        self.share = share
    }
}

/// What consistent hashing goes by; the first that a request has (RouteAction.hash_policy, each terminal).
public enum HashKey: Hashable, Sendable {
    /// In lower case.
    case header(String)
    case cookie(String)
    case sourceAddress
}

/// A second attempt beside the first where that takes long; the first answer that is no failure wins (hedge_policy with
/// hedge_on_per_try_timeout). Each counts as a retry.
public struct Hedging: Hashable, Sendable {
    /// After so long without a response head.
    public var delay: Duration
    /// Beside the first attempt, at least 1.
    public var maxAttempts: UInt32

    public init(delay: Duration, maxAttempts: UInt32 = 1) {
        self.delay = delay
        self.maxAttempts = maxAttempts
    }
}
