public import Base

/// When and where to connect next. Decides only: its owner resolves names, connects and keeps the timer.
///
/// Addresses are tried in turn, all of them in a round; between rounds the wait doubles, from 0.2 s to 30 s, each shortened by chance to
/// something from half of it on, so that the proxies of a fleet whose control plane returns do not all come at once.
public struct Reconnection: Sendable {
    public static let firstWait = Nanoseconds.milliseconds(200)
    public static let longestWait = Nanoseconds.seconds(30)
    /// Between two addresses of a round: another machine may be well while this one is not.
    public static let waitWithinRound = Nanoseconds.milliseconds(50)
    /// A connection that lasted so long, and on which the other side said something, was a good one: waiting begins anew after it.
    /// One that ended sooner counts as a failure, or a control plane that ends every stream at once would be asked five times a second.
    public static let goodLife = Nanoseconds.seconds(5)

    /// Failures in a row.
    public private(set) var failures = 0
    private var wait = Self.firstWait
    private var addresses: [SocketAddress] = []
    private var nextIndex = 0
    private var random: SeededRandom
    private var openedAt: Instant?
    private var isAnswered = false

    public init(seed: UInt64) {
        random = SeededRandom(seed: seed)
    }

    /// No address of a round is left: the name is to be resolved (again) before `nextAddress`.
    public var roundIsOver: Bool { nextIndex >= addresses.count }

    /// A name was resolved. The round begins with one of them by chance: not every proxy of a fleet with the same.
    public mutating func beginRound(_ resolved: [SocketAddress]) {
        addresses = resolved
        nextIndex = 0
        guard resolved.count > 1 else { return }
        let first = random.below(resolved.count)
        addresses = Array(resolved[first...] + resolved[..<first])
    }

    /// Where to connect to now; nil where `roundIsOver`.
    public mutating func nextAddress() -> SocketAddress? {
        guard !roundIsOver else { return nil }
        defer { nextIndex += 1 }
        return addresses[nextIndex]
    }

    public mutating func opened(now: Instant) {
        openedAt = now
        isAnswered = false
    }

    /// The other side said something that we understood.
    public mutating func answered() {
        isAnswered = true
    }

    /// A connection, or the attempt, has ended, or a name could not be resolved.
    ///
    /// - Returns: when to try next.
    public mutating func ended(now: Instant) -> Instant {
        if let openedAt, isAnswered, now - openedAt >= Self.goodLife {
            failures = 0
            wait = Self.firstWait
            // The address was good: the next round may begin with any.
            nextIndex = addresses.count
        } else {
            failures += 1
        }
        openedAt = nil
        guard roundIsOver else { return now + Self.waitWithinRound }
        let half = wait.count / 2
        let chosen = Nanoseconds(count: half + Int64(random.below(Int(half) + 1)))
        wait = Nanoseconds(count: min(wait.count * 2, Self.longestWait.count))
        return now + chosen
    }
}
