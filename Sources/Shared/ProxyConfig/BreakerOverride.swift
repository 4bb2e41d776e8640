public import Base

/// What an operator wants of a breaker for a while, whatever it would do itself.
public struct BreakerOverride: Hashable, Sendable {
    public enum Action: String, CaseIterable, Hashable, Sendable {
        /// Nothing passes.
        case open
        /// Everything passes, nothing counts.
        case disable
        /// Everything passes, what would open it is told.
        case observe
    }

    /// The breakers that are meant.
    public struct Target: Hashable, Sendable {
        public var cluster: String
        /// Nil = the service as a whole.
        public var endpoint: SocketAddress?

        public init(cluster: String, endpoint: SocketAddress? = nil) {
            self.cluster = cluster
            self.endpoint = endpoint
        }
    }

    public var target: Target
    public var action: Action
    /// Its end, in milliseconds since 1970: the same for every proxy and across restarts.
    public var until: Int64

    public init(_ target: Target, _ action: Action, until: Int64) {
        self.target = target
        self.action = action
        self.until = until
    }

    /// Whoever forces a breaker may forget it: so it ends by itself.
    public static let defaultDuration = Duration.seconds(600)
    public static let longestDuration = Duration.seconds(24 * 3600)
}
