public import Base

/// When one name is asked for again, and which addresses stand meanwhile. Decides only: its owner asks and keeps the timer.
///
/// A name that once had addresses never loses them to a failure, of whatever kind: a name server that is down, or that has forgotten a
/// name for a moment, must not take down a service whose endpoints are alive (serve-stale). Only a good answer replaces an answer.
public struct NameRefresh: Sendable {
    public enum State: String, Sendable {
        /// Nothing has come yet.
        case pending
        case fresh
        /// The last lookup failed; the addresses are those of the last good one.
        case stale
        /// Lookups fail, and there never was an answer.
        case failed
    }

    /// What an outcome leads to.
    public struct Step: Equatable, Sendable {
        public var addressesChanged: Bool
        /// Another than before; nil = the same.
        public var newState: State?
        public var nextLookup: Instant
    }

    /// Answers are not believed for longer, whatever their TTL: an operator's mistake there must heal by itself.
    public static let longestRefresh = Nanoseconds.seconds(300)
    public static let shortestRefresh = Nanoseconds.seconds(1)
    public static let firstBackoff = Nanoseconds.seconds(1)
    public static let longestBackoff = Nanoseconds.seconds(30)

    public let family: LookupFamily
    /// Between lookups where the answer has no TTL, and the least there is.
    public private(set) var refreshInterval: Nanoseconds
    public private(set) var state = State.pending
    /// Sorted.
    public private(set) var addresses: [IPAddress] = []
    /// Of the last good answer.
    public private(set) var ttl: Nanoseconds?
    /// When the last good answer came.
    public private(set) var answeredAt: Instant?
    /// In a row, up to now.
    public private(set) var failures = 0
    public private(set) var lastError: ResolveError?
    private var nextLookup = Instant.never

    public init(family: LookupFamily, refreshInterval: Nanoseconds) {
        self.family = family
        self.refreshInterval = Self.bounded(refreshInterval)
    }

    private static func bounded(_ interval: Nanoseconds) -> Nanoseconds {
        min(max(interval, shortestRefresh), longestRefresh)
    }

    /// The configuration wants another interval.
    ///
    /// - Returns: when the next lookup is due; nil while one is under way.
    public mutating func setRefreshInterval(_ interval: Nanoseconds, now: Instant) -> Instant? {
        let interval = Self.bounded(interval)
        let isShorter = interval < refreshInterval
        refreshInterval = interval
        guard nextLookup != .never else { return nil }
        if isShorter, state == .fresh { nextLookup = min(nextLookup, now + lifetime) }
        return nextLookup
    }

    public mutating func lookupBegan() {
        nextLookup = .never
    }

    public mutating func lookupEnded(_ result: Result<Answer, ResolveError>, now: Instant, random: inout SeededRandom) -> Step {
        let before = (addresses, state)
        switch result {
        case .success(let answer) where !hidesBetter(answer):
            addresses = merged(answer)
            ttl = answer.ttl
            answeredAt = now
            failures = 0
            lastError = nil
            state = .fresh
            nextLookup = now + Self.jittered(lifetime, &random)
        case .success: failed(.serverFailure, now, &random)
        case .failure(let error): failed(error, now, &random)
        }
        return Step(addressesChanged: addresses != before.0, newState: state == before.1 ? nil : state, nextLookup: nextLookup)
    }

    private mutating func failed(_ error: ResolveError, _ now: Instant, _ random: inout SeededRandom) {
        failures += 1
        lastError = error
        state = answeredAt == nil ? .failed : .stale
        nextLookup = now + Self.jittered(backoff, &random)
    }

    /// The preferred version could not be asked for, and we hold addresses of it: those of the other version must not replace them.
    private func hidesBetter(_ answer: Answer) -> Bool {
        guard let unanswered = answer.unanswered, unanswered == family.preferred else { return false }
        return addresses.contains { IPVersion($0) == unanswered }
    }

    /// Addresses of a version that could not be asked for stay as they are.
    private func merged(_ answer: Answer) -> [IPAddress] {
        guard let unanswered = answer.unanswered, family == .all else { return answer.addresses }
        return (addresses.filter { IPVersion($0) == unanswered } + answer.addresses).sorted()
    }

    private var lifetime: Nanoseconds {
        min(max(ttl ?? refreshInterval, refreshInterval), Self.longestRefresh)
    }

    private var backoff: Nanoseconds {
        Nanoseconds(count: min(Self.firstBackoff.count << Int64(min(failures - 1, 10)), Self.longestBackoff.count))
    }

    /// Up to a tenth more, so that the sidecars of a fleet that started together do not ask together for ever.
    private static func jittered(_ span: Nanoseconds, _ random: inout SeededRandom) -> Nanoseconds {
        Nanoseconds(count: span.count + Int64(random.below(Int(span.count / 10))))
    }
}
