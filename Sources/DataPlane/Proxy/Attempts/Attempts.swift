import Balancing
import Base
import Resilience

/// What the attempts of one request leave behind for the next one.
struct Attempts {
    enum Phase {
        case none
        case underWay
        /// Its one outcome has been recorded.
        case over
    }

    var phase = Phase.none
    private(set) var count = 0
    private(set) var started = Instant.never
    /// When the one under way has used up its own time (per_try_timeout).
    var deadline = Instant.never
    /// When the next one begins; `.never` if none is due.
    var nextAt = Instant.never
    /// Of the one under way, if it is a probe of its endpoint's breaker.
    var ticket = ProbeTicket.none
    var tried = TriedEndpoints()
    var retries = RetryState()
    /// The budget counts the one under way, or due, as a retry.
    var isCharged = false
    /// Its endpoint has answered, so its latency is known.
    var isAnswered = false
    /// Of the last one: what the service's breaker is told. At first it says nothing.
    var lastOutcome = AttemptOutcome.overloadLocal
    /// When another one goes beside it.
    var hedgeAt = Instant.never
    var hedgesBegun: UInt32 = 0
    /// The request's own one came to nothing, one beside it has not yet.
    var waitsForHedge = false
    var raceWasRetried = false
    var refusals = 0

    mutating func begin(now: Instant) {
        phase = .underWay
        count += 1
        started = now
        deadline = .never
        nextAt = .never
        hedgeAt = .never
        isAnswered = false
    }
}
