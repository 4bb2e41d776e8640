import Base
import Testing

@testable import Telemetry

@Suite struct HistogramTests {
    @Test("a quantile is within 5 % of the value that has the rank", arguments: [Histogram.Range.requests, .connections])
    func quantileError(range: Histogram.Range) {
        for seed in 0..<20 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let histogram = Histogram(range)
            // Spread over the whole range, evenly in the exponent, in the way latencies are.
            var values = (0..<500).map { _ in
                let exponent = range.lowestExponent + random.below(Histogram.octaves)
                return Int64(1) << exponent + Int64(random.below(1 << exponent))
            }
            for value in values { histogram.record(nanoseconds: value) }
            values.sort()
            var reading = HistogramReading(range)
            reading.add(histogram)
            for quantile in [0.01, 0.5, 0.9, 0.99] {
                let exact = Double(values[Int((quantile * 500).rounded(.up)) - 1])
                #expect(abs(reading.quantile(quantile) - exact) <= 0.05 * exact)
            }
            #expect(reading.quantile(1) <= Double(values[499]))
            #expect(reading.largest == UInt64(values[499]))
            #expect(reading.sum == values.reduce(0) { $0 + UInt64($1) })
        }
    }

    @Test("adding the histograms of two workers is the histogram of both")
    func merge() {
        let left = Histogram()
        let right = Histogram()
        let both = Histogram()
        var random = SeededRandom(seed: 7)
        for index in 0..<1000 {
            let value = Int64(random.below(3_000_000_000))
            if index % 3 == 0 { left.record(nanoseconds: value) } else { right.record(nanoseconds: value) }
            both.record(nanoseconds: value)
        }
        var sum = HistogramReading(.requests)
        sum.add(left)
        sum.add(right)
        var whole = HistogramReading(.requests)
        whole.add(both)
        for quantile in [0, 0.1, 0.5, 0.999, 1] { #expect(sum.quantile(quantile) == whole.quantile(quantile)) }
        #expect(sum.count == 1000)
        #expect(sum.sum == whole.sum)
    }

    @Test("values outside the range count in the outermost buckets, and the largest stays exact")
    func outside() {
        let histogram = Histogram(.requests)
        for value in [-5, 0, 1, 100_000_000_000, .max] as [Int64] { histogram.record(nanoseconds: value) }
        var reading = HistogramReading(.requests)
        reading.add(histogram)
        #expect(reading.count == 5)
        #expect(reading.largest == UInt64(Int64.max))
        #expect(reading.quantile(0.5) <= 2253)
        #expect(reading.quantile(1) == Double(Int64.max))
    }

    @Test("cumulative counts never fall, end below the count, and meet a bound within 5 %")
    func cumulative() {
        let histogram = Histogram(.requests)
        for millisecond in 1...1000 { histogram.record(nanoseconds: Int64(millisecond) * 1_000_000) }
        var reading = HistogramReading(.requests)
        reading.add(histogram)
        let counts = reading.cumulative([0, 1e6, 100e6, 500e6, 2000e6])
        #expect(counts == counts.sorted())
        #expect(counts[0] == 0)
        #expect((95...105).contains(counts[2]))
        #expect((475...525).contains(counts[3]))
        #expect(counts[4] == 1000)
    }

    @Test("a histogram takes at most 2 KiB")
    func size() {
        #expect(MemoryLayout<Histogram>.size <= 2048)
    }

    @Test("a duration counts in the first bucket whose bound it does not exceed")
    func durations() {
        let buckets = DurationBuckets()
        for value in [0, 1_000_000, 1_000_001, 10_000_000_000, 10_000_000_001] as [Int64] { buckets.record(nanoseconds: value) }
        var summary = DurationSummary()
        summary.add(buckets)
        #expect(summary.counts == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    }
}
