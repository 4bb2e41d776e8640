import Base

/// How often which latency came, as a proxy counts it: 25 powers of two from `1 << lowestExponent` nanoseconds on, each in ten buckets.
/// The buckets are the proxy's own, so that the sum over a fleet is exact.
public struct ReportedHistogram: Hashable, Sendable {
    public static let octaves = 25
    public static let perOctave = 10
    public static let bucketCount = octaves * perOctave

    /// 11 for requests: 2 µs through 68 s.
    public private(set) var lowestExponent: Int
    /// In nanoseconds, as is `largest`.
    public private(set) var sum: UInt64
    public private(set) var largest: UInt64
    /// Empty = all are 0; else `bucketCount` of them.
    public private(set) var buckets: [UInt64]

    public init(lowestExponent: Int = 11) {
        self.lowestExponent = lowestExponent
        sum = 0
        largest = 0
        buckets = []
    }

    /// - Parameter buckets: `bucketCount` of them.
    public init(lowestExponent: Int, buckets: [UInt64], sum: UInt64, largest: UInt64) {
        precondition(buckets.count == Self.bucketCount, "a histogram of \(buckets.count) buckets")
        precondition(Self.exponents.contains(lowestExponent), "a histogram from 1 << \(lowestExponent) on")
        self.lowestExponent = lowestExponent
        self.sum = sum
        self.largest = largest
        self.buckets = buckets.contains { $0 != 0 } ? buckets : []
    }

    /// Beyond these a bucket's bound has no meaning in 64 bits.
    static let exponents = 0...(63 - octaves)

    public var count: UInt64 { buckets.reduce(0, &+) }

    /// Adds another of the same range. Nothing is changed, and false is the answer, where the ranges differ.
    @discardableResult
    public mutating func merge(_ other: ReportedHistogram) -> Bool {
        if other.buckets.isEmpty { return true }
        if buckets.isEmpty {
            self = other
            return true
        }
        guard other.lowestExponent == lowestExponent else { return false }
        for index in buckets.indices { buckets[index] &+= other.buckets[index] }
        sum &+= other.sum
        largest = max(largest, other.largest)
        return true
    }

    /// What came between `earlier` and this, of the same process. Where a count went down, a new process began, and all of this is new.
    /// `largest` stays that of the whole life: what the largest was in between nobody knows.
    public func since(_ earlier: ReportedHistogram) -> ReportedHistogram {
        guard !earlier.buckets.isEmpty, !buckets.isEmpty, earlier.lowestExponent == lowestExponent, sum >= earlier.sum,
            zip(buckets, earlier.buckets).allSatisfy({ $0 >= $1 })
        else { return self }
        return ReportedHistogram(
            lowestExponent: lowestExponent, buckets: zip(buckets, earlier.buckets).map { $0 - $1 }, sum: sum - earlier.sum, largest: largest
        )
    }

    /// The value, in nanoseconds, that a share `quantile` (0 through 1) of the values does not exceed: within 5 % for values in the range.
    /// Zero where nothing was recorded.
    public func quantile(_ quantile: Double) -> Double {
        let count = count
        guard count > 0 else { return 0 }
        let rank = max(1, (quantile * Double(count)).rounded(.up))
        var seen: UInt64 = 0
        for (index, bucket) in buckets.enumerated() {
            seen &+= bucket
            // The top bucket has no upper bound, and no value exceeds the largest.
            if Double(seen) >= rank { return index == Self.bucketCount - 1 ? Double(largest) : min(middle(index), Double(largest)) }
        }
        return Double(largest)
    }

    /// How many values are at most each of `bounds` (in nanoseconds, ascending), to the nearest bucket.
    public func counts(atMost bounds: [Double]) -> [UInt64] {
        var counts: [UInt64] = []
        var seen: UInt64 = 0
        var index = 0
        for bound in bounds {
            while index < buckets.count, middle(index) <= bound {
                seen &+= buckets[index]
                index += 1
            }
            counts.append(seen)
        }
        return counts
    }

    private func middle(_ bucket: Int) -> Double {
        (lowerBound(bucket) + lowerBound(bucket + 1)) / 2
    }

    private func lowerBound(_ bucket: Int) -> Double {
        let (octave, tenth) = bucket.quotientAndRemainder(dividingBy: Self.perOctave)
        return Double(UInt64(1) << UInt64(lowestExponent + octave)) * (1 + Double(tenth) / Double(Self.perOctave))
    }
}
