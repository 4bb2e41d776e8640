import Balancing
import Base
import ProxyConfig
import Resilience

/// What is simulated: hosts, callers, calls, trouble.
struct Scenario {
    struct Trouble {
        enum Kind {
            /// The host answers 500, at once; every n-th call only if n > 1.
            case errors(every: Int)
            /// It fails this share of the calls.
            case failing(share: Double)
            case hang
            case slow(Duration)
            /// Nobody listens; what was under way is reset.
            case dead
        }

        var hosts: Range<Int>
        var from: Double
        var to: Double
        var kind: Kind
    }

    enum Limit {
        case infinite
        /// So many at a time for each host; others wait in its queue, and are served even if their caller has given up.
        case servers(Int, service: Duration)
    }

    var hosts = 5
    var callers = 1
    var workers = 1
    var seconds = 25.0
    /// Calls a second of all callers together, from an instant on, in seconds.
    var rates: [(from: Double, perSecond: Double)] = [(0, 200)]
    var limit = Limit.infinite
    /// By time; a host has the last one that holds.
    var troubles: [Trouble] = []
    /// Hosts by zone: callers prefer their own.
    var zones = 1
    var policy = StandardPolicy()
    /// App Mesh's detection instead of the standard policy's breakers.
    var appMesh: OutlierDetection?
    var balancing: BalancingRules.Policy?
    var service: BreakerPolicy?
    var usesRetries = true
    var usesBreakers = true
    /// Of the request.
    var timeout = Nanoseconds.seconds(15)
    /// Share of calls that must not be repeated or risked.
    var unsafeShare = 0.0
}

/// What came of it.
struct Outcome {
    struct Call {
        var start: Double
        var milliseconds: Double
        var isOK: Bool
        var isRefused: Bool
    }

    var calls: [Call] = []
    /// Attempts that reached a host in trouble, with the time.
    var hits: [(at: Double, host: Int)] = []
    var attempts = 0
    var ejections: [(at: Double, host: Int, reason: OutlierEvent.Reason)] = []
    var returns: [(at: Double, host: Int)] = []
    var panics = 0
    /// The first good answer of each host after a time.
    var goodAnswers: [(at: Double, host: Int)] = []

    func calls(_ range: Range<Double>) -> [Call] { calls.filter { range.contains($0.start) } }
    func failed(_ range: Range<Double> = 0..<1e9) -> Int { calls(range).count { !$0.isOK } }
    func percentile(_ share: Double, _ range: Range<Double> = 0..<1e9) -> Double {
        let sorted = calls(range).filter(\.isOK).map(\.milliseconds).sorted()
        return sorted.isEmpty ? 0 : sorted[min(Int((Double(sorted.count) * share).rounded(.up)) - 1, sorted.count - 1)]
    }
    func mean(_ range: Range<Double>) -> Double {
        let calls = calls(range)
        return calls.reduce(0) { $0 + $1.milliseconds } / Double(max(calls.count, 1))
    }
    func goodput(_ range: Range<Double>) -> Double {
        Double(calls.count { $0.isOK && range.contains($0.start + $0.milliseconds / 1000) }) / (range.upperBound - range.lowerBound)
    }
    func firstGood(of host: Int, after: Double) -> Double? { goodAnswers.first { $0.host == host && $0.at >= after }?.at }
    var attemptsPerCall: Double { Double(attempts) / Double(max(calls.count, 1)) }
}
