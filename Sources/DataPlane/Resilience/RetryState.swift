public import Base

/// The retries of one request: how many there were, and whether there is one more. Fits into a stream.
public struct RetryState: Sendable {
    public enum Decision: Hashable, Sendable {
        /// The budget has been charged: call `RetryBudget.retryEnded` when the attempt is over, or when it is never made.
        case retry(after: Nanoseconds)
        case stop(Stop)
    }

    /// Why an attempt is the last; the first four leave the response as it is, each is a counter of its own.
    public enum Stop: Hashable, Sendable {
        /// No event of the policy, or there is none.
        case notCovered
        /// The response has begun, the body is not kept, or it must not be done twice.
        case notRepeatable
        /// upstream_rq_retry_limit_exceeded; the flag URX.
        case limit
        /// upstream_rq_retry_overflow; the flag RB.
        case budget
        /// The server said no, or a time beyond the deadline.
        case pushback
        /// The deadline comes before the next attempt could.
        case noTime
    }

    /// What of a request says whether it may be made again.
    public struct Request: Hashable, Sendable {
        /// Its body is kept whole, and nothing of a response was passed on.
        public var isReplayable: Bool
        /// Its method may be done twice (RFC 9110 §9.2.2).
        public var isIdempotent: Bool
        /// Whether an endpoint is left that it did not try.
        public var hasOthers: Bool

        public init(isReplayable: Bool, isIdempotent: Bool, hasOthers: Bool) {
            self.isReplayable = isReplayable
            self.isIdempotent = isIdempotent
            self.hasOthers = hasOthers
        }
    }

    /// How often it was made again.
    public private(set) var count: UInt32 = 0

    public init() {}

    /// Decides after an attempt. Asks for the budget last, so that nothing is charged in vain.
    ///
    /// - Parameters:
    ///   - status: of the response; 0 if there was none.
    ///   - pushback: what the server said about the next attempt.
    ///   - requests: under way in the cluster on this worker, this one too.
    public mutating func decide(
        after outcome: AttemptOutcome, status: UInt16, pushback: RetryPushback = .none, request: Request, rules: RetryRules,
        budget: inout RetryBudget, requests: Int, deadline: Instant, now: Instant, random: inout SeededRandom
    ) -> Decision {
        guard rules.maxRetries > 0, rules.covers(outcome, status: status) else { return .stop(.notCovered) }
        guard request.isReplayable, !rules.needsIdempotence || request.isIdempotent || outcome.isUnprocessed else {
            return .stop(.notRepeatable)
        }
        guard count < rules.maxRetries else { return .stop(.limit) }
        let delay: Nanoseconds
        switch pushback {
        case .never: return .stop(.pushback)
        case .after(let asked):
            guard now + asked < deadline else { return .stop(.pushback) }
            delay = asked
        case .none: delay = rules.backoff.delay(before: count + 1, isElsewhere: request.hasOthers, random: &random)
        }
        guard now + delay < deadline else { return .stop(.noTime) }
        guard budget.begin(requests: requests, isFree: outcome.isUnprocessed, now: now) else { return .stop(.budget) }
        count += 1
        return .retry(after: delay)
    }
}

extension AttemptOutcome {
    /// Whether the endpoint surely has not begun to process it.
    public var isUnprocessed: Bool {
        switch self {
        case .connectFailure, .connectTimeout, .goawayUnprocessed, .overloadLocal, .overloadRemote: true
        case .ok, .http5xx, .gateway, .grpcError, .timeout, .resetRemote, .resetLocal, .clientCancel: false
        }
    }
}

/// What a server says about the next attempt.
public enum RetryPushback: Hashable, Sendable {
    case none
    case never
    case after(Nanoseconds)

    /// Longer waits are cut: they are beyond any deadline, and must not overflow.
    private static let longest: Int64 = 1_000_000_000

    /// `grpc-retry-pushback-ms` (gRFC A6): milliseconds; a negative number or anything else forbids a retry.
    public init(grpcPushback value: RawSpan) {
        guard let number = Self.decimal(value) else {
            self = .never
            return
        }
        self = .after(.milliseconds(number))
    }

    /// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date, of which a past one is now. What is neither says nothing.
    ///
    /// - Parameter wallClock: seconds from 1970.
    public init(retryAfter value: RawSpan, wallClock: Int64) {
        if let number = Self.decimal(value) {
            self = .after(.seconds(number))
        } else if let date = Self.date(value) {
            self = .after(.seconds(min(max(date - wallClock, 0), Self.longest)))
        } else {
            self = .none
        }
    }

    private static func decimal(_ value: RawSpan) -> Int64? {
        guard value.byteCount > 0 else { return nil }
        var number: Int64 = 0
        for index in 0..<value.byteCount {
            let byte = byte(index, of: value)
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = min(number * 10 + Int64(byte - UInt8(ascii: "0")), longest)
        }
        return number
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) as seconds from 1970. The two obsolete forms are not read: no server that sends
    /// Retry-After writes them.
    private static func date(_ value: RawSpan) -> Int64? {
        guard value.byteCount == 29 else { return nil }
        func number(_ range: Range<Int>) -> Int64? { decimal(value.extracting(range)) }
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec".utf8.map { $0 }
        let month = (0..<12).first { month in (0..<3).allSatisfy { byte(8 + $0, of: value) == months[month * 3 + $0] } }
        guard let month, let day = number(5..<7), let year = number(12..<16), let hour = number(17..<19), let minute = number(20..<22),
            let second = number(23..<25)
        else { return nil }
        // Days from 1970 of a Gregorian date, counted from 1 March so that the leap day comes last.
        let shifted = month < 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * Int64((month + 10) % 12) + 2) / 5 + day - 1
        let days = era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
        return days * 86_400 + hour * 3600 + minute * 60 + second
    }

    private static func byte(_ index: Int, of value: RawSpan) -> UInt8 {
        precondition(index < value.byteCount, "byte \(index) of \(value.byteCount)")
        return unsafe value.unsafeLoad(fromUncheckedByteOffset: index, as: UInt8.self)
    }
}
