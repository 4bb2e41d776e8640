import Base
import Testing
import XDSClient

@Suite("When and where to connect again")
struct ReconnectionTests {
    private let addresses = [1, 2, 3].map { SocketAddress(.v4(0x0a00_0000 + $0), 15010) }

    @Test("waits double from 0.2 s to 30 s, each shortened to something from half of it on")
    func waitsDouble() {
        for seed in 0..<50 as Range<UInt64> {
            var reconnection = Reconnection(seed: seed)
            var longest = Nanoseconds.milliseconds(200)
            var now = Instant(nanoseconds: 0)
            for _ in 0..<12 {
                reconnection.beginRound([addresses[0]])
                _ = reconnection.nextAddress()
                let next = reconnection.ended(now: now)
                #expect(next - now <= longest && (next - now).count * 2 >= longest.count, "seed \(seed)")
                now = next
                longest = Nanoseconds(count: min(longest.count * 2, 30_000_000_000))
            }
            #expect(reconnection.failures == 12)
        }
    }

    @Test("the proxies of a fleet come at different times, and begin with different addresses")
    func jitter() {
        var times: Set<Instant> = []
        var first: Set<SocketAddress> = []
        for seed in 0..<20 as Range<UInt64> {
            var reconnection = Reconnection(seed: seed)
            reconnection.beginRound(addresses)
            first.insert(reconnection.nextAddress()!)
            _ = reconnection.nextAddress()
            _ = reconnection.nextAddress()
            times.insert(reconnection.ended(now: Instant(nanoseconds: 0)))
        }
        #expect(times.count > 15)
        #expect(first == Set(addresses))
    }

    @Test("every address of a round is tried, with little time between, before the long wait")
    func rounds() {
        var reconnection = Reconnection(seed: 1)
        #expect(reconnection.roundIsOver && reconnection.nextAddress() == nil)
        reconnection.beginRound(addresses)
        var tried: Set<SocketAddress> = []
        let start = Instant(nanoseconds: 0)
        for number in 1...3 {
            tried.insert(reconnection.nextAddress()!)
            let next = reconnection.ended(now: start)
            #expect(number < 3 ? next - start == Reconnection.waitWithinRound : next - start >= Nanoseconds.milliseconds(100))
        }
        #expect(tried == Set(addresses) && reconnection.roundIsOver)
    }

    @Test("only a connection that answered and lasted makes waiting begin anew", arguments: [(true, 5), (true, 4), (false, 60)])
    func reset(answered: Bool, seconds: Int64) {
        var reconnection = Reconnection(seed: 3)
        var now = Instant(nanoseconds: 0)
        for _ in 0..<6 {
            reconnection.beginRound([addresses[0]])
            _ = reconnection.nextAddress()
            now = reconnection.ended(now: now)
        }
        reconnection.beginRound([addresses[0]])
        _ = reconnection.nextAddress()
        reconnection.opened(now: now)
        if answered { reconnection.answered() }
        now = now + Nanoseconds.seconds(seconds)
        let wait = reconnection.ended(now: now) - now
        let isGood = answered && seconds >= 5
        #expect(isGood ? wait <= Reconnection.firstWait : wait > Nanoseconds.seconds(6))
        #expect(reconnection.failures == (isGood ? 0 : 7))
    }

    @Test("a name that cannot be resolved counts as a failure")
    func noAddress() {
        var reconnection = Reconnection(seed: 4)
        let start = Instant(nanoseconds: 0)
        #expect(reconnection.ended(now: start) > start)
        #expect(reconnection.failures == 1)
    }
}
