import Base
import Testing

@testable import Resolver

private let first = IPAddress("10.0.0.1")!
private let second = IPAddress("10.0.0.2")!
private let sixth = IPAddress("fd00::6")!

/// A policy with a clock that the test turns.
private struct Follower {
    var refresh: NameRefresh
    var random = SeededRandom(seed: 7)
    var now = Instant(nanoseconds: 0)

    init(_ family: LookupFamily = .all, interval: Nanoseconds = .seconds(5)) {
        refresh = NameRefresh(family: family, refreshInterval: interval)
    }

    mutating func answer(_ addresses: [IPAddress], ttl: Nanoseconds? = nil, unanswered: IPVersion? = nil) -> NameRefresh.Step {
        end(.success(Answer(addresses: addresses, ttl: ttl, unanswered: unanswered)))
    }

    mutating func end(_ result: Result<Answer, ResolveError>) -> NameRefresh.Step {
        refresh.lookupBegan()
        return refresh.lookupEnded(result, now: now, random: &random)
    }

    /// Whether the next lookup comes `span` from now, or up to a tenth later.
    func isDue(_ step: NameRefresh.Step, after span: Nanoseconds) -> Bool {
        let wait = step.nextLookup - now
        return wait >= span && wait.count <= span.count + span.count / 10
    }
}

@Suite struct NameRefreshTests {
    @Test(
        "An answer is asked for again after its TTL, within the refresh interval and 300 s",
        arguments: [
            (nil, 5, 5), (1, 5, 5), (5, 5, 5), (60, 5, 60), (300, 5, 300), (86_400, 5, 300), (60, 120, 120),
            // The interval itself is held within 1 s and 300 s.
            (nil, 0, 1), (nil, 1000, 300),
        ] as [(Int64?, Int64, Int64)])
    func lifetime(ttl: Int64?, interval: Int64, expected: Int64) {
        var follower = Follower(interval: .seconds(interval))
        let step = follower.answer([first], ttl: ttl.map(Nanoseconds.seconds))
        #expect(follower.isDue(step, after: .seconds(expected)))
        #expect(step.addressesChanged && step.newState == .fresh)
    }

    @Test("Failures are repeated after 1, 2, 4, 8, 16 and then 30 s, and an answer begins anew")
    func backoff() {
        var follower = Follower()
        for round in 1...2 {
            for seconds in [1, 2, 4, 8, 16, 30, 30, 30] as [Int64] {
                let step = follower.end(.failure(.timeout))
                #expect(follower.isDue(step, after: .seconds(seconds)), "round \(round), \(seconds) s: \(step)")
            }
            _ = follower.answer([first])
            #expect(follower.refresh.failures == 0 && follower.refresh.lastError == nil)
        }
    }

    @Test("A thousand failures in a row do not overflow the backoff")
    func manyFailures() {
        var follower = Follower()
        for _ in 0..<1000 {
            let step = follower.end(.failure(.serverFailure))
            #expect(step.nextLookup - follower.now <= .seconds(33))
        }
    }

    @Test(
        "No failure takes the last good addresses away, and the change of state is told once",
        arguments: [.serverFailure, .timeout, .notFound, .noAddresses, .malformedAnswer, .overloaded] as [ResolveError])
    func serveStale(error: ResolveError) {
        var follower = Follower()
        _ = follower.answer([first, second])
        var step = follower.end(.failure(error))
        #expect(!step.addressesChanged && step.newState == .stale)
        step = follower.end(.failure(error))
        #expect(!step.addressesChanged && step.newState == nil)
        #expect(follower.refresh.addresses == [first, second])
        #expect(follower.refresh.failures == 2 && follower.refresh.lastError == error)
        step = follower.answer([second])
        #expect(step.addressesChanged && step.newState == .fresh)
        #expect(follower.refresh.addresses == [second])
    }

    @Test("A name that never had an answer fails empty, until one comes")
    func neverAnswered() {
        var follower = Follower()
        let step = follower.end(.failure(.notFound))
        #expect(!step.addressesChanged && step.newState == .failed)
        #expect(follower.refresh.addresses.isEmpty && follower.refresh.answeredAt == nil)
        #expect(follower.answer([first]).newState == .fresh)
    }

    @Test("The same answer again changes nothing")
    func unchanged() {
        var follower = Follower()
        _ = follower.answer([first, second])
        let step = follower.answer([first, second])
        #expect(!step.addressesChanged && step.newState == nil)
    }

    @Test("With all: where one version's question failed, its addresses stay and the other's are replaced")
    func halfAnswer() {
        var follower = Follower(.all)
        _ = follower.answer([first, sixth])
        _ = follower.answer([second], unanswered: .v6)
        #expect(follower.refresh.addresses == [second, sixth])
        _ = follower.answer([second])
        #expect(follower.refresh.addresses == [second])
    }

    @Test("With v4Preferred: while the question for A fails, known IPv4 addresses are not replaced by IPv6 ones")
    func preferredUnanswered() {
        var follower = Follower(.v4Preferred)
        _ = follower.answer([sixth], unanswered: .v4)
        #expect(follower.refresh.addresses == [sixth], "with nothing better known, they serve")
        _ = follower.answer([first])
        let step = follower.answer([sixth], unanswered: .v4)
        #expect(step.newState == .stale && follower.refresh.addresses == [first])
    }

    @Test("A shorter interval of a new configuration counts at once, a longer one from the next answer on")
    func newInterval() {
        var follower = Follower(interval: .seconds(60))
        #expect(follower.refresh.setRefreshInterval(.seconds(50), now: follower.now) == nil, "nothing is scheduled before the first lookup")
        _ = follower.answer([first])
        follower.now = Instant(nanoseconds: 0) + Nanoseconds.seconds(10)
        #expect(follower.refresh.setRefreshInterval(.seconds(5), now: follower.now) == follower.now + Nanoseconds.seconds(5))
        #expect(follower.refresh.setRefreshInterval(.seconds(90), now: follower.now) == follower.now + Nanoseconds.seconds(5))
        let step = follower.answer([first])
        #expect(follower.isDue(step, after: .seconds(90)))
    }
}

@Suite struct LookupFamilyTests {
    private static let v4 = Result<Answer, ResolveError>.success(Answer(addresses: [first], ttl: .seconds(30)))
    private static let v6 = Result<Answer, ResolveError>.success(Answer(addresses: [sixth], ttl: .seconds(20)))

    private static func both(unanswered: IPVersion? = nil) -> Answer {
        Answer(addresses: [first, sixth], ttl: .seconds(20), unanswered: unanswered)
    }

    @Test(
        "What the answers for A and AAAA come to",
        arguments: [
            (.all, v4, v6, .success(both())),
            (.all, v4, .failure(.noAddresses), v4),
            (.all, v4, .failure(.timeout), .success(Answer(addresses: [first], ttl: .seconds(30), unanswered: .v6))),
            (.all, .failure(.serverFailure), v6, .success(Answer(addresses: [sixth], ttl: .seconds(20), unanswered: .v4))),
            (.all, .failure(.notFound), .failure(.notFound), .failure(.notFound)),
            (.all, .failure(.noAddresses), .failure(.notFound), .failure(.noAddresses)),
            // One failed, so nobody knows that there are none.
            (.all, .failure(.noAddresses), .failure(.timeout), .failure(.timeout)),
            (.v4Preferred, v4, v6, v4),
            (.v4Preferred, v4, .failure(.timeout), v4),
            (.v4Preferred, .failure(.noAddresses), v6, v6),
            (.v4Preferred, .failure(.timeout), v6, .success(Answer(addresses: [sixth], ttl: .seconds(20), unanswered: .v4))),
            (.v6Preferred, v4, v6, v6),
            (.v6Preferred, v4, .failure(.noAddresses), v4),
            (.v4Only, v4, nil, v4),
            (.v6Only, nil, v6, v6),
            (.v6Only, nil, .failure(.noAddresses), .failure(.noAddresses)),
        ] as [(LookupFamily, Result<Answer, ResolveError>?, Result<Answer, ResolveError>?, Result<Answer, ResolveError>)])
    func combine(
        family: LookupFamily, a: Result<Answer, ResolveError>?, aaaa: Result<Answer, ResolveError>?, expected: Result<Answer, ResolveError>
    ) {
        var results: [IPVersion: Result<Answer, ResolveError>] = [:]
        results[.v4] = a
        results[.v6] = aaaa
        #expect(family.combine(results) == expected)
    }
}
