import Synchronization

/// What a block shows under one name.
struct StatDescriptor: Sendable {
    enum Kind: Sendable {
        case counter
        case gauge
        /// Completed, by class and by code: three families.
        case statuses
        /// By a reason of the codec.
        case reasons
        /// Buckets for Prometheus, quantiles for /stats.
        case histogram
        /// Quantiles for /stats only.
        case quantiles
        /// Requests of a route by class and flag.
        case outcomes
        /// Durations of a route by class.
        case durations
    }

    var name: StaticString
    var help: StaticString
    var kind: Kind
    /// Where in the array of its kind the value stands.
    var slot: Int
}

/// Adds up the blocks that workers have for one thing.
struct StatReader {
    /// The sum over the workers.
    struct Reading: Sendable {
        /// Counters, and gauges as bit patterns.
        var values: [UInt64] = []
        /// Sparse tables: statuses (key -1: completed; 1 through 5: classes; else codes), reasons, outcomes (the slot's index).
        var tables: [[Int: UInt64]] = []
        var histograms: [HistogramSummary] = []
        /// Per class of response.
        var durations: [[DurationSummary]] = []
    }

    private(set) var descriptors: [StatDescriptor] = []
    private var reading = Reading()
    private var histograms: [HistogramReading] = []
    private var cursor = 0
    private var isKnown = false

    /// Reads what the workers have; all blocks are of one type, and so are those of later calls.
    mutating func read<Block: StatBlock>(_ blocks: [Block?]) -> Reading {
        for block in blocks {
            guard let block else { continue }
            cursor = 0
            block.visit(&self)
            isKnown = true
        }
        var result = reading
        result.histograms = histograms.map(HistogramSummary.init)
        for index in reading.values.indices { reading.values[index] = 0 }
        for index in reading.tables.indices { reading.tables[index].removeAll(keepingCapacity: true) }
        for index in reading.durations.indices { reading.durations[index] = DurationSummary.perClass }
        for index in histograms.indices { histograms[index] = HistogramReading(histograms[index].range) }
        return result
    }

    private mutating func next(_ name: StaticString, _ help: StaticString, _ kind: StatDescriptor.Kind, slots: Int) -> Int {
        defer { cursor += 1 }
        if isKnown { return descriptors[cursor].slot }
        descriptors.append(StatDescriptor(name: name, help: help, kind: kind, slot: slots))
        return slots
    }

    mutating func counter(_ name: StaticString, _ help: StaticString, _ counter: borrowing Counter) {
        let slot = next(name, help, .counter, slots: reading.values.count)
        if slot == reading.values.count { reading.values.append(0) }
        reading.values[slot] &+= counter.value
    }

    mutating func gauge(_ name: StaticString, _ help: StaticString, _ gauge: borrowing Gauge) {
        let slot = next(name, help, .gauge, slots: reading.values.count)
        if slot == reading.values.count { reading.values.append(0) }
        reading.values[slot] &+= UInt64(bitPattern: gauge.value)
    }

    mutating func statuses(_ name: StaticString, _ help: StaticString, _ counters: borrowing StatusCounters) {
        let slot = nextTable(name, help, .statuses)
        var table = reading.tables[slot]
        table[-1, default: 0] &+= counters.completed.value
        for digit in 1...5 { table[digit, default: 0] &+= counters.count(ofClass: digit) }
        counters.forEachCode { code, count in table[code, default: 0] &+= count }
        reading.tables[slot] = table
    }

    mutating func reasons(_ name: StaticString, _ help: StaticString, _ counters: borrowing IndexedCounters) {
        let slot = nextTable(name, help, .reasons)
        for index in 0..<IndexedCounters.slots {
            let count = counters.count(index)
            if count > 0 { reading.tables[slot][index, default: 0] &+= count }
        }
    }

    mutating func outcomes(_ name: StaticString, _ help: StaticString, _ stats: RouteStats) {
        let slot = nextTable(name, help, .outcomes)
        for outcome in ResponseClass.allCases {
            for column in 0..<RouteStats.flagColumns {
                let count = stats.count(outcome, column: column)
                if count > 0 { reading.tables[slot][Int(outcome.rawValue) * RouteStats.flagColumns + column, default: 0] &+= count }
            }
        }
    }

    mutating func durations(_ name: StaticString, _ help: StaticString, _ stats: RouteStats) {
        let slot = next(name, help, .durations, slots: reading.durations.count)
        if slot == reading.durations.count { reading.durations.append(DurationSummary.perClass) }
        for index in 0..<RouteStats.classCount { reading.durations[slot][index].add(stats.durations[index]) }
    }

    mutating func histogram(_ name: StaticString, _ help: StaticString, _ histogram: borrowing Histogram) {
        add(histogram, next(name, help, .histogram, slots: histograms.count))
    }

    mutating func quantiles(_ name: StaticString, _ help: StaticString, _ histogram: borrowing Histogram) {
        add(histogram, next(name, help, .quantiles, slots: histograms.count))
    }

    private mutating func add(_ histogram: borrowing Histogram, _ slot: Int) {
        if slot == histograms.count { histograms.append(HistogramReading(histogram.range)) }
        histograms[slot].add(histogram)
    }

    private mutating func nextTable(_ name: StaticString, _ help: StaticString, _ kind: StatDescriptor.Kind) -> Int {
        let slot = next(name, help, kind, slots: reading.tables.count)
        if slot == reading.tables.count { reading.tables.append([:]) }
        return slot
    }
}

/// What is shown of a histogram, in milliseconds.
struct HistogramSummary: Sendable {
    var bounds: [Double]
    /// As many as bounds; the last bucket, without a bound, is `count`.
    var cumulative: [UInt64]
    var count: UInt64
    var sum: Double
    var p50: Double
    var p90: Double
    var p99: Double
    var max: Double

    /// Those of `DurationBuckets`.
    static let requestBounds: [Double] = [1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
    /// 10 ms to 6 hours.
    static let connectionBounds: [Double] = [10, 100, 1000, 5000, 10000, 30000, 60000, 300_000, 600_000, 1_800_000, 3_600_000, 21_600_000]

    init(_ reading: HistogramReading) {
        bounds = reading.range == .requests ? Self.requestBounds : Self.connectionBounds
        cumulative = reading.cumulative(bounds.map { $0 * 1e6 })
        count = reading.count
        sum = Double(reading.sum) / 1e6
        p50 = reading.quantile(0.5) / 1e6
        p90 = reading.quantile(0.9) / 1e6
        p99 = reading.quantile(0.99) / 1e6
        max = Double(reading.largest) / 1e6
    }
}

/// What is shown of `DurationBuckets`, in seconds.
struct DurationSummary: Sendable {
    static let bounds: [Double] = HistogramSummary.requestBounds.map { $0 / 1000 }
    /// Nothing yet, for each class of response.
    static let perClass = [DurationSummary](repeating: DurationSummary(), count: RouteStats.classCount)

    /// Not cumulative; the last one has no bound.
    var counts = [UInt64](repeating: 0, count: 13)
    var sum: Double = 0

    mutating func add(_ buckets: borrowing DurationBuckets) {
        for index in 0..<13 { counts[index] &+= buckets.counts[index].load(ordering: .relaxed) }
        sum += Double(buckets.sum.load(ordering: .relaxed)) / 1e9
    }
}
