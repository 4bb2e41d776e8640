import Base
import ProxyConfig
import Testing

@testable import Resilience

@Suite("What may be made again")
struct RetryRulesTests {
    /// App Mesh's words as the compiler writes them, and the failures that each covers.
    static let appMesh: [(words: [String], codes: [Int], covered: Set<String>)] = [
        (
            ["retriable-status-codes", "reset"], [500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511],
            ["500", "503", "timeout", "reset", "connect", "goaway"]
        ),  // server-error
        (["retriable-status-codes", "reset"], [502, 503, 504], ["503", "timeout", "reset", "connect", "goaway"]),  // gateway-error
        (["retriable-status-codes"], [409], ["409"]),  // client-error
        (["refused-stream"], [], ["goaway"]),  // stream-error
        (["connect-failure"], [], ["connect"]),  // connection-error
        (["cancelled"], [], ["grpc 1"]), (["deadline-exceeded"], [], ["grpc 4"]), (["resource-exhausted"], [], ["grpc 8"]),
        (["internal"], [], ["grpc 13"]), (["unavailable"], [], ["grpc 14"]),
        (["5xx"], [], ["500", "503", "timeout", "reset", "connect", "goaway"]),
        (["retriable-4xx"], [], ["409"]), (["a-word-of-tomorrow"], [], []), ([], [503], []),
    ]

    static let failures: [(name: String, outcome: AttemptOutcome, status: UInt16)] = [
        ("200", .ok, 200), ("409", .ok, 409), ("500", .http5xx(status: 500), 500), ("503", .gateway(status: 503), 503),
        ("timeout", .timeout, 0), ("reset", .resetRemote, 0), ("connect", .connectFailure, 0), ("goaway", .goawayUnprocessed, 0),
        ("grpc 1", .grpcError(code: 1), 200), ("grpc 4", .grpcError(code: 4), 200), ("grpc 8", .grpcError(code: 8), 200),
        ("grpc 13", .grpcError(code: 13), 200), ("grpc 14", .grpcError(code: 14), 200), ("grpc 5", .grpcError(code: 5), 200),
        ("overloaded here", .overloadLocal, 503), ("overloaded there", .overloadRemote, 503), ("caller gone", .clientCancel(slow: true), 0),
    ]

    @Test("each word covers these failures and no other; what was refused for overload never", arguments: appMesh)
    func words(words: [String], codes: [Int], covered: Set<String>) {
        let rules = RetryRules(RetryPolicy(retryOn: words, retriableStatusCodes: codes, maxRetries: 2))
        let found = Set(Self.failures.filter { rules.covers($0.outcome, status: $0.status) }.map(\.name))
        #expect(found == covered)
    }

    @Test("App Mesh's hidden policy: two retries on 503, connection failures, resets, refused streams and UNAVAILABLE")
    func hidden() {
        let rules = RetryRules.appMeshDefault
        let found = Set(Self.failures.filter { rules.covers($0.outcome, status: $0.status) }.map(\.name))
        #expect(found == ["503", "timeout", "reset", "connect", "goaway", "grpc 14"])
        #expect(rules.maxRetries == 2 && rules.perTryTimeout == nil)
        #expect(
            rules
                == RetryRules(
                    RetryPolicy(
                        retryOn: ["unavailable", "connect-failure", "refused-stream", "retriable-status-codes", "reset"],
                        retriableStatusCodes: [503], maxRetries: 2)))
        #expect(rules != RetryRules(RetryPolicy(retryOn: ["unavailable"], maxRetries: 2)))
    }

    @Test("the first retry goes at once to another endpoint; later ones within 75, 175, 250 ms, anywhere in it")
    func backoff() {
        var random = SeededRandom(seed: 1)
        let backoff = RetryBackoff()
        #expect(backoff.delay(before: 1, isElsewhere: true, random: &random) == .zero)
        for (number, isElsewhere, bound) in [(1, false, 25), (2, true, 75), (3, true, 175), (4, true, 250), (60, true, 250)] {
            let delays = (0..<1000).map { _ in
                backoff.delay(before: UInt32(number), isElsewhere: isElsewhere, random: &random).seconds * 1000
            }
            #expect(delays.allSatisfy { $0 >= 0 && $0 < Double(bound) })
            #expect(delays.min() ?? 1 < Double(bound) * 0.02 && delays.max() ?? 0 > Double(bound) * 0.98, "retry \(number)")
        }
    }
}

@Suite("Whether a request is made again")
struct RetryStateTests {
    static let now = Instant(nanoseconds: 1_000_000_000)
    static let fine = RetryState.Request(isReplayable: true, isIdempotent: true, hasOthers: true)

    static func decide(
        _ outcome: AttemptOutcome = .gateway(status: 503), pushback: RetryPushback = .none, request: RetryState.Request = fine,
        rules: RetryRules = .appMeshDefault, after retries: Int = 0, budget: UInt32 = 3, left: Duration = .seconds(1)
    ) -> RetryState.Decision {
        var random = SeededRandom(seed: 1)
        var budget = RetryBudget(percent: 20, minimum: budget, now: now)
        var state = RetryState()
        var ample = RetryBudget(percent: 100, minimum: 100, now: now)
        for _ in 0..<retries {
            _ = state.decide(
                after: .connectFailure, status: 0, request: fine, rules: .appMeshDefault, budget: &ample, requests: 1, deadline: .never,
                now: now, random: &random)
        }
        return state.decide(
            after: outcome, status: 503, pushback: pushback, request: request, rules: rules, budget: &budget, requests: 1,
            deadline: now + left, now: now, random: &random)
    }

    @Test("yes, at once; and every reason for no")
    func reasons() {
        #expect(Self.decide() == .retry(after: .zero))
        #expect(Self.decide(.ok, rules: RetryRules(events: .reset, maxRetries: 2)) == .stop(.notCovered))
        #expect(Self.decide(rules: RetryRules(events: .any5xx, maxRetries: 0)) == .stop(.notCovered))
        #expect(Self.decide(.overloadRemote) == .stop(.notCovered))
        #expect(Self.decide(request: .init(isReplayable: false, isIdempotent: true, hasOthers: true)) == .stop(.notRepeatable))
        #expect(Self.decide(after: 2) == .stop(.limit))
        #expect(Self.decide(budget: 0) == .stop(.budget))
        #expect(Self.decide(left: .zero) == .stop(.noTime))
        #expect(Self.decide(pushback: .never) == .stop(.pushback))
        #expect(Self.decide(pushback: .after(.seconds(1))) == .stop(.pushback))
        #expect(Self.decide(pushback: .after(.milliseconds(700))) == .retry(after: .milliseconds(700)))
    }

    @Test("what must not be done twice is made again only if the endpoint surely did not begin it")
    func idempotence() {
        let rules = RetryRules(events: [.reset, .any5xx], maxRetries: 2, needsIdempotence: true)
        let post = RetryState.Request(isReplayable: true, isIdempotent: false, hasOthers: true)
        for outcome in [AttemptOutcome.gateway(status: 503), .timeout, .resetRemote] {
            #expect(Self.decide(outcome, request: post, rules: rules) == .stop(.notRepeatable))
            #expect(Self.decide(outcome, rules: rules) == .retry(after: .zero))
        }
        #expect(Self.decide(.connectFailure, request: post, rules: rules) == .retry(after: .zero))
        #expect(Self.decide(.goawayUnprocessed, request: post, rules: rules) == .retry(after: .zero))
    }

    @Test(
        "grpc-retry-pushback-ms: milliseconds; negative or nonsense forbids",
        arguments: [
            ("0", .after(.zero)), ("150", .after(.milliseconds(150))), ("-1", .never), ("", .never), ("1s", .never),
            ("99999999999999999999", .after(.milliseconds(1_000_000_000))),
        ] as [(String, RetryPushback)])
    func grpcPushback(text: String, expected: RetryPushback) {
        let bytes = Array(text.utf8)
        let found = unsafe RetryPushback(grpcPushback: bytes.span.bytes)
        #expect(found == expected)
    }

    /// 784111777 is RFC 9110's own example, 6 November 1994.
    @Test(
        "Retry-After: seconds or a date",
        arguments: [
            ("120", .after(.seconds(120))), ("0", .after(.zero)), ("soon", .none), ("-5", .none), ("", .none),
            ("Sun, 06 Nov 1994 08:49:37 GMT", .after(.seconds(7))), ("Sun, 06 Nov 1994 08:49:00 GMT", .after(.zero)),
            ("Sun, 06 Nvm 1994 08:49:37 GMT", .none), ("Mon, 07 Nov 1994 08:49:37 GMT", .after(.seconds(86_407))),
            ("Wed, 01 Mar 1995 00:00:00 GMT", .after(.seconds(794_016_000 - 784_111_770))),
        ] as [(String, RetryPushback)])
    func retryAfter(text: String, expected: RetryPushback) {
        let bytes = Array(text.utf8)
        let found = unsafe RetryPushback(retryAfter: bytes.span.bytes, wallClock: 784_111_770)
        #expect(found == expected)
    }
}

@Suite("The retry budget")
struct RetryBudgetTests {
    @Test(
        "at most 20 percent of what is under way, but at least 3",
        arguments: [(1, 3), (15, 3), (20, 4), (50, 10), (100, 20)])
    func active(requests: Int, expected: Int) {
        let now = Instant(nanoseconds: 0)
        var budget = RetryBudget(now: now)
        for _ in 0..<1000 { budget.requestStarted(requests: requests) }
        var begun = 0
        while budget.begin(requests: requests, now: now) { begun += 1 }
        #expect(begun == expected)
        budget.retryEnded()
        #expect(budget.begin(requests: requests, now: now) == true)
    }

    @Test(
        "when every answer is an error and comes at once, a fifth of the requests of any ten seconds are made again, or three",
        arguments: [0.5, 1.6, 3, 10, 77, 200], [0.0, 3, 50])
    func storm(perSecond: Double, calmSeconds: Double) {
        var budget = RetryBudget(now: Instant(nanoseconds: 0))
        var (requests, retries): ([Double], [Double]) = ([], [])
        for request in 0..<Int(perSecond * (calmSeconds + 31)) {
            let time = Double(request) / perSecond
            requests.append(time)
            budget.requestStarted(requests: 1)
            for _ in 0..<2 where time > calmSeconds && budget.begin(requests: 1, now: Instant(nanoseconds: Int64(time * 1e9))) {
                retries.append(time)
                budget.retryEnded()
            }
        }
        var (firstRequest, pastRequest, firstRetry) = (0, 0, 0)
        for (number, end) in retries.enumerated() {
            while pastRequest < requests.count, requests[pastRequest] <= end { pastRequest += 1 }
            while requests[firstRequest] <= end - 10 { firstRequest += 1 }
            while retries[firstRetry] <= end - 10 { firstRetry += 1 }
            let (made, again) = (pastRequest - firstRequest, number + 1 - firstRetry)
            // In its first seconds it has what it earns, three that it began with, and three that time gives.
            let bound = end < 10 ? made / 5 + 6 : max(3, made / 5)
            #expect(again <= bound, "\(again) of \(made) until second \(end)")
        }
        // Whole seconds are counted, on the safe side: a tenth less, and what does not make a whole one.
        let (late, asked) = (retries.count { $0 >= calmSeconds + 11 }, 20 * perSecond)
        #expect(Double(late) >= 0.8 * asked / 5 - 2, "\(late) of \(asked)")
    }

    @Test("requests of long ago allow nothing: a rush and a quiet hour later only the minimum")
    func forgotten() {
        var budget = RetryBudget(now: Instant(nanoseconds: 0))
        for _ in 0..<100_000 { budget.requestStarted(requests: 1) }
        #expect(budget.begin(requests: 1, now: Instant(nanoseconds: 0)) == true)
        budget.retryEnded()
        let later = Instant(nanoseconds: 3_600_000_000_000)
        var begun = 0
        while budget.begin(requests: 1, now: later) {
            begun += 1
            budget.retryEnded()
        }
        #expect(begun == 3)
    }

    @Test("a service that is called every four seconds may repeat every call")
    func rare() {
        var budget = RetryBudget(now: Instant(nanoseconds: 0))
        for request in 0..<100 {
            budget.requestStarted(requests: 1)
            #expect(budget.begin(requests: 1, now: Instant(nanoseconds: Int64(request) * 4_000_000_000)) == true, "request \(request)")
            budget.retryEnded()
        }
    }

    @Test("what cost no server anything is repeated beyond the fifth, but not beyond what may be under way")
    func free() {
        let now = Instant(nanoseconds: 0)
        var budget = RetryBudget(now: now)
        while budget.begin(requests: 1, now: now) { budget.retryEnded() }
        let begun = (0..<10).count { _ in budget.begin(requests: 1, isFree: true, now: now) }
        #expect(begun == 3)
    }

    @Test("what was saved up in good times is a burst of ten, or of what may be under way", arguments: [(1, 10), (1000, 400)])
    func burst(requests: Int, expected: Int) {
        var budget = RetryBudget(now: Instant(nanoseconds: 0))
        for _ in 0..<100_000 { budget.requestStarted(requests: requests) }
        var begun = 0
        while budget.begin(requests: 1_000_000, now: Instant(nanoseconds: 0)) { begun += 1 }
        #expect(begun == expected)
    }
}

@Suite("Deadlines")
struct DeadlineTests {
    static let start = Instant(nanoseconds: 1_000_000_000)

    @Test(
        "the shorter of the caller's and the route's; each try within; the next hop is told what is left",
        arguments: [
            (15_000, nil, nil, 0, 15_000), (15_000, 2000, nil, 0, 2000), (15_000, 60_000, nil, 0, 15_000), (nil, 2000, nil, 500, 1500),
            (15_000, nil, 1000, 0, 1000), (15_000, nil, 1000, 14_500, 500), (15_000, nil, 1000, 16_000, 0), (nil, nil, nil, 5, nil),
            (nil, nil, 250, 5, 250), (nil, nil, 0, 5, nil),
        ] as [(Int64?, Int64?, Int64?, Int64, Int64?)])
    func left(route: Int64?, caller: Int64?, perTry: Int64?, after: Int64, expected: Int64?) {
        let deadlines = Deadlines(
            started: Self.start, routeTimeout: route.map(Nanoseconds.milliseconds), callerTimeout: caller.map(Nanoseconds.milliseconds),
            perTry: perTry.map(Nanoseconds.milliseconds))
        #expect(deadlines.left(now: Self.start + Nanoseconds.milliseconds(after)) == expected.map(Nanoseconds.milliseconds))
    }

    @Test(
        "a per-try timeout holds while at most half of the endpoints look slow",
        arguments: [(0, 5, true), (2, 5, true), (3, 5, false), (1, 1, false), (0, 0, true), (2, 4, true)])
    func yields(slow: Int, available: Int, expected: Bool) {
        #expect(Deadlines.perTryTimeoutHolds(slow: slow, available: available) == expected)
    }
}

@Suite("Limits")
struct LimitTests {
    @Test("a token bucket passes its rate and its burst, and says when the next one may")
    func tokens() {
        let bucket = TokenBucket(LocalRateLimit(burst: 5, requests: 10))
        func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
        let burst = (0..<20).count { _ in bucket.take(now: at(0)) == nil }
        #expect(burst == 5)
        #expect(bucket.take(now: at(0))?.milliseconds == 100)
        #expect(bucket.take(now: at(99)) == .milliseconds(1))
        #expect(bucket.take(now: at(100)) == nil)
        let steady = (0..<100).count { bucket.take(now: at(100 + Int64($0) * 10)) == nil }
        #expect(steady == 9)
        let later = (0..<20).count { _ in bucket.take(now: at(3_600_000)) == nil }
        #expect(later == 5)
    }

    @Test("a queue serves the oldest; under pressure the newest; who waits too long is refused, the oldest first")
    func queue() {
        var queue = AdmissionQueue<Int>(capacity: 4, longestWait: .milliseconds(100), pressureAfter: .milliseconds(50))
        func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
        for element in 1...4 { #expect(queue.enqueue(element, now: at(Int64(element))) != nil) }
        #expect(queue.enqueue(5, now: at(5)) == nil)
        #expect(queue.next(now: at(6)) == 1)
        #expect(queue.nextExpiry == at(102))
        #expect(queue.isUnderPressure(now: at(51)) && !queue.isUnderPressure(now: at(50)))
        #expect(queue.next(now: at(60)) == 4)
        #expect(queue.expired(now: at(101)) == nil)
        #expect(queue.expired(now: at(102)) == 2)
        #expect(queue.expired(now: at(102)) == nil)
        #expect(queue.next(now: at(102)) == 3)
        #expect(queue.next(now: at(102)) == nil && queue.count == 0 && queue.nextExpiry == .never)
        // Empty once: no pressure, however long ago the first one came.
        _ = queue.enqueue(6, now: at(200))
        _ = queue.enqueue(7, now: at(210))
        #expect(queue.next(now: at(220)) == 6)
    }

    @Test("a queue under any mix of calls keeps its count, serves everybody once and forgets who left")
    func queueLaws() {
        for seed in 0..<200 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var queue = AdmissionQueue<Int>(capacity: 8, longestWait: .milliseconds(20), pressureAfter: .milliseconds(10))
            var waiting: [Int: AdmissionQueue<Int>.Place] = [:]
            var stale: [AdmissionQueue<Int>.Place] = []
            for step in 0..<500 {
                let now = Instant(nanoseconds: Int64(step) * 1_000_000)
                while let element = queue.expired(now: now) {
                    #expect(waiting.removeValue(forKey: element) != nil, "seed \(seed)")
                }
                switch random.below(4) {
                case 0, 1:
                    if let place = queue.enqueue(step, now: now) { waiting[step] = place } else { #expect(waiting.count == 8) }
                case 2:
                    if let element = queue.next(now: now) {
                        stale.append(waiting.removeValue(forKey: element) ?? stale[0])
                    } else {
                        #expect(waiting.isEmpty, "seed \(seed)")
                    }
                default:
                    if let place = stale.randomElement(using: &random) { queue.cancel(place) }
                    if let (element, place) = waiting.randomElement(using: &random) {
                        queue.cancel(place)
                        waiting[element] = nil
                    }
                }
                #expect(queue.count == waiting.count, "seed \(seed)")
            }
        }
    }

    /// A service with `servers` that each take `service` ms; requests beyond wait in its queue.
    static func limited(servers: Int, service: Double, offeredPerSecond: Int, seconds: Int, rules: ConcurrencyLimiter.Rules) -> (
        limiter: ConcurrencyLimiter, goodput: Double, worst: Double
    ) {
        var limiter = ConcurrencyLimiter(rules: rules, now: Instant(nanoseconds: 0))
        var free = Array(repeating: 0.0, count: servers)
        var ends: [(end: Double, latency: Double)] = []
        var good = 0
        var worst = 0.0
        for request in 0..<offeredPerSecond * seconds {
            let now = Double(request) * 1000 / Double(offeredPerSecond)
            ends.sort { $0.end < $1.end }
            while let first = ends.first, first.end <= now {
                ends.removeFirst()
                limiter.end(latency: Nanoseconds(count: Int64(first.latency * 1e6)), now: Instant(nanoseconds: Int64(first.end * 1e6)))
                good += 1
                if now > Double(seconds) * 500 { worst = max(worst, first.latency) }
            }
            guard limiter.begin() else { continue }
            let server = free.indices.min { free[$0] < free[$1] } ?? 0
            let end = max(free[server], now) + service
            free[server] = end
            ends.append((end, end - now))
        }
        return (limiter, Double(good) / Double(seconds), worst)
    }

    @Test("offered more than there is, the limiter keeps capacity busy and queues short, for minutes", arguments: [10, 120])
    func gradient(seconds: Int) {
        let result = Self.limited(servers: 5, service: 20, offeredPerSecond: 400, seconds: seconds, rules: .init())
        #expect(result.goodput > 245, "\(result.goodput)")
        #expect(result.worst < 120, "\(result.worst) ms")
    }

    @Test("below capacity it refuses nothing")
    func below() {
        let result = Self.limited(servers: 5, service: 20, offeredPerSecond: 200, seconds: 60, rules: .init())
        #expect(result.limiter.refused == 0)
        #expect((result.limiter.bestLatency ?? .zero).milliseconds == 20)
    }

    @Test("one slow endpoint of five moves nothing, for the latency of now is a median")
    func oneSlow() {
        var limiter = ConcurrencyLimiter(now: Instant(nanoseconds: 0))
        for call in 0..<5000 {
            #expect(limiter.begin() == true)
            limiter.end(
                latency: call.isMultiple(of: 5) ? .seconds(2) : .milliseconds(5), now: Instant(nanoseconds: Int64(call) * 5_000_000))
        }
        #expect(limiter.limit >= 50)
    }
}
