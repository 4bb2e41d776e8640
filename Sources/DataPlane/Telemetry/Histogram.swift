import Synchronization

/// How often which value came, in 250 buckets of about equal relative width, for one writer: 2 KiB, mergeable, no allocation.
///
/// Each of 25 powers of two is divided into ten buckets, so a value read back from its bucket's middle is at most 5 % wrong. Values
/// below the range (2 µs for `.requests`) count in the first bucket, values above it (68 s) in the last; the largest is kept as
/// it is.
public struct Histogram: ~Copyable, Sendable {
    /// The range of values: 25 powers of two from `1 << lowestExponent` on.
    public struct Range: Hashable, Sendable {
        public let lowestExponent: Int

        /// 2 µs through 68 s, in nanoseconds: requests and connects.
        public static let requests = Range(lowestExponent: 11)
        /// 1 ms through 9.7 hours, in nanoseconds: lives of connections.
        public static let connections = Range(lowestExponent: 20)
    }

    static let octaves = 25
    static let perOctave = 10
    static let bucketCount = octaves * perOctave

    let range: Range
    let buckets = InlineArray<250, Atomic<UInt64>> { _ in Atomic(0) }
    let sum = Atomic<UInt64>(0)
    let largest = Atomic<UInt64>(0)

    public init(_ range: Range = .requests) {
        self.range = range
    }

    /// Counts one value. Negative ones (a clock read on another CPU) count as 0.
    public func record(nanoseconds: Int64) {
        let value = UInt64(max(nanoseconds, 0))
        let slot = range.bucket(of: value)
        buckets[slot].store(buckets[slot].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        sum.store(sum.load(ordering: .relaxed) &+ value, ordering: .relaxed)
        if value > largest.load(ordering: .relaxed) { largest.store(value, ordering: .relaxed) }
    }
}

extension Histogram.Range {
    @inline(__always)
    func bucket(of value: UInt64) -> Int {
        guard value >> lowestExponent > 0 else { return 0 }
        let exponent = 63 - value.leadingZeroBitCount
        let octave = exponent - lowestExponent
        guard octave < Histogram.octaves else { return Histogram.bucketCount - 1 }
        // How far into the octave, in tenths. Ten times a value below 2^46 fits in 64 bits.
        let tenth = ((value &- 1 << exponent) &* 10) >> exponent
        return octave * Histogram.perOctave + Int(truncatingIfNeeded: tenth)
    }

    /// The smallest value of a bucket. The first bucket also holds everything below it.
    func lowerBound(_ bucket: Int) -> Double {
        let (octave, tenth) = bucket.quotientAndRemainder(dividingBy: Histogram.perOctave)
        return Double(1 << (lowestExponent + octave)) * (1 + Double(tenth) / 10)
    }

    func middle(_ bucket: Int) -> Double {
        (lowerBound(bucket) + lowerBound(bucket + 1)) / 2
    }
}

/// The sum of histograms of one range, read while their writers go on.
///
/// Its `count` is the sum of its buckets, so a cumulative rendering always adds up.
public struct HistogramReading: Sendable {
    public let range: Histogram.Range
    public private(set) var count: UInt64 = 0
    /// In nanoseconds, as is `largest`.
    public private(set) var sum: UInt64 = 0
    public private(set) var largest: UInt64 = 0
    /// 250, from the range's lowest on: ten for each power of two.
    public private(set) var buckets = [UInt64](repeating: 0, count: Histogram.bucketCount)

    public init(_ range: Histogram.Range) {
        self.range = range
    }

    public mutating func add(_ histogram: borrowing Histogram) {
        precondition(histogram.range == range, "histograms of different ranges do not add up")
        for index in 0..<Histogram.bucketCount {
            let count = histogram.buckets[index].load(ordering: .relaxed)
            buckets[index] &+= count
            self.count &+= count
        }
        sum &+= histogram.sum.load(ordering: .relaxed)
        largest = max(largest, histogram.largest.load(ordering: .relaxed))
    }

    /// The value, in nanoseconds, that a share `quantile` (0 through 1) of the values does not exceed: within 5 % for values in the
    /// range. Zero where nothing was recorded.
    public func quantile(_ quantile: Double) -> Double {
        guard count > 0 else { return 0 }
        let rank = max(1, (quantile * Double(count)).rounded(.up))
        var seen: UInt64 = 0
        for index in 0..<Histogram.bucketCount {
            seen &+= buckets[index]
            // The top bucket has no upper bound, and no value exceeds the largest.
            if Double(seen) >= rank {
                return index == Histogram.bucketCount - 1 ? Double(largest) : min(range.middle(index), Double(largest))
            }
        }
        return Double(largest)
    }

    /// How many values are at most each of `bounds` (ascending, in nanoseconds). A bucket counts whole where its middle lies, so a
    /// bound is met within 5 %.
    public func cumulative(_ bounds: [Double]) -> [UInt64] {
        var result: [UInt64] = []
        var seen: UInt64 = 0
        var index = 0
        for bound in bounds {
            while index < Histogram.bucketCount - 1, range.middle(index) <= bound {
                seen &+= buckets[index]
                index += 1
            }
            result.append(seen)
        }
        return result
    }
}

/// How many durations were at most each of twelve bounds, for one writer: 120 bytes, where a `Histogram` for every label set is
/// too much.
public struct DurationBuckets: ~Copyable, Sendable {
    /// Upper bounds in nanoseconds: 1 ms to 10 s in the steps that dashboards use.
    static let bounds: InlineArray<12, Int64> = [
        1_000_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000,
        5_000_000_000, 10_000_000_000,
    ]

    let counts = InlineArray<13, Atomic<UInt64>> { _ in Atomic(0) }
    let sum = Atomic<UInt64>(0)

    public init() {}

    public func record(nanoseconds: Int64) {
        var slot = 0
        while slot < 12, nanoseconds > Self.bounds[slot] { slot &+= 1 }
        counts[slot].store(counts[slot].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        sum.store(sum.load(ordering: .relaxed) &+ UInt64(max(nanoseconds, 0)), ordering: .relaxed)
    }
}
