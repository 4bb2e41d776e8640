public import Base
public import ProxyConfig

/// Finds out how many requests may be under way in a cluster: as many as do not wait in the endpoints' queues. One for each worker and
/// cluster.
///
/// A gradient limiter: it compares the latency of now with the best one it remembers. Where both are alike the limit grows by its
/// square root; where requests take longer because they queue, it shrinks in proportion. The latency of now is a median, so that one
/// slow endpoint among several moves nothing: that is for its breaker and for balancing.
public struct ConcurrencyLimiter: Sendable {
    public struct Rules: Hashable, Sendable {
        public var minimum: Int
        public var maximum: Int
        public var initial: Int
        /// So much longer than the best may it take, in percent, before the limit shrinks.
        public var tolerancePercent: Int
        /// The limit is reconsidered so often, if there were calls enough.
        public var window: Nanoseconds
        /// The best latency is of this time, or twice as long.
        public var memory: Nanoseconds

        public init(
            minimum: Int = 4, maximum: Int = 1000, initial: Int = 50, tolerancePercent: Int = 50,
            window: Nanoseconds = .milliseconds(100), memory: Nanoseconds = .seconds(30)
        ) {
            self.minimum = max(minimum, 1)
            self.maximum = max(maximum, self.minimum)
            self.initial = min(max(initial, self.minimum), self.maximum)
            self.tolerancePercent = tolerancePercent
            self.window = window
            self.memory = memory
        }

        public init(_ limit: AdaptiveLimit) {
            self.init(
                minimum: Int(limit.minimum), maximum: Int(limit.maximum), initial: Int(limit.initial),
                tolerancePercent: Int(limit.tolerancePercent))
        }
    }

    /// Of a window's latencies so many are kept, every n-th if there are more: enough for a median.
    private static let capacity = 64
    /// With fewer a window goes on.
    private static let fewest = 10

    public let rules: Rules
    public private(set) var active = 0
    public private(set) var refused: UInt64 = 0
    private var exactLimit: Double
    private var samples = InlineArray<64, Int64>(repeating: 0)
    private var sampleCount = 0
    private var windowEnds: Instant
    /// The most that were under way in this window.
    private var highest = 0
    /// Of this memory and of the one before; `.max` = none.
    private var best = (current: Int64.max, previous: Int64.max)
    private var memoryEnds: Instant
    private var refusedAtMemoryStart: UInt64 = 0
    /// What a probe of the unloaded latency gives back when its window is over.
    private var limitBeforeProbe: Double?

    public init(rules: Rules = Rules(), now: Instant) {
        self.rules = rules
        exactLimit = Double(rules.initial)
        windowEnds = now + rules.window
        memoryEnds = now + rules.memory
    }

    public var limit: Int { Int(exactLimit) }
    public var hasRoom: Bool { active < limit }
    /// The best latency remembered; nil at the start.
    public var bestLatency: Nanoseconds? {
        let least = min(best.current, best.previous)
        return least == .max ? nil : Nanoseconds(count: least)
    }

    /// Whether one more may begin. False: queue it, or refuse it.
    public mutating func begin() -> Bool {
        guard active < limit else {
            refused += 1
            return false
        }
        active += 1
        highest = max(highest, active)
        return true
    }

    /// One that began is over.
    ///
    /// - Parameter latency: nil if it says nothing: it failed at once, or the caller went away. A timeout says that it takes at least so
    ///   long.
    public mutating func end(latency: Nanoseconds?, now: Instant) {
        precondition(active > 0, "a request ended that did not begin")
        active -= 1
        guard let latency else { return }
        if sampleCount < Self.capacity {
            samples[sampleCount] = latency.count
        } else {
            // Overwritten in turn: a window with many calls is judged by its last ones.
            samples[sampleCount % Self.capacity] = latency.count
        }
        sampleCount += 1
        if now >= windowEnds, sampleCount >= Self.fewest { reconsider(now: now) }
    }

    private mutating func reconsider(now: Instant) {
        let median = takeMedian()
        windowEnds = now + rules.window
        defer { highest = active }
        if let before = limitBeforeProbe {
            limitBeforeProbe = nil
            best.current = min(best.current, median)
            exactLimit = before
            return
        }
        best.current = min(best.current, median)
        let least = Double(min(best.current, best.previous))
        let allowed = least * Double(100 + rules.tolerancePercent) / 100
        let gradient = min(max(allowed / Double(max(median, 1)), 0.5), 1)
        // Where the limit is not used, its growth would say nothing.
        let isUsed = Double(highest) * 2 >= exactLimit
        let wanted = exactLimit * gradient + (isUsed ? exactLimit.squareRoot() : 0)
        exactLimit = min(max(wanted, Double(rules.minimum)), Double(rules.maximum))
        if now >= memoryEnds { forget(now: now) }
    }

    /// Under lasting overload no latency is the unloaded one, and the best would creep up: for one window the limit is halved, so that
    /// the queues run empty and one sees it again.
    private mutating func forget(now: Instant) {
        best = (.max, best.current)
        memoryEnds = now + rules.memory
        if refused > refusedAtMemoryStart {
            limitBeforeProbe = exactLimit
            exactLimit = max(exactLimit / 2, Double(rules.minimum))
        }
        refusedAtMemoryStart = refused
    }

    /// Insertion sort of at most 64 numbers: a few hundred steps, ten times a second.
    private mutating func takeMedian() -> Int64 {
        let count = min(sampleCount, Self.capacity)
        sampleCount = 0
        for position in 1..<max(count, 1) {
            let sample = samples[position]
            var place = position
            while place > 0, samples[place - 1] > sample {
                samples[place] = samples[place - 1]
                place -= 1
            }
            samples[place] = sample
        }
        return samples[count / 2]
    }
}
