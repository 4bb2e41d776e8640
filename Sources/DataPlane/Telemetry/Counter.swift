public import Synchronization

/// A number that only grows, written by one thread and read by any.
///
/// One writer is the reason it is cheap: a relaxed load and a relaxed store (0.4 ns) instead of an atomic addition (3 ns). Two
/// writers would lose counts, so every worker has blocks of its own and the reader adds them up.
public struct Counter: ~Copyable, Sendable {
    @usableFromInline let storage = Atomic<UInt64>(0)

    public init() {}

    @inlinable @inline(__always)
    public func increment() {
        add(1)
    }

    @inlinable @inline(__always)
    public func add(_ amount: UInt64) {
        storage.store(storage.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
    }

    /// Adds a length; a negative one is a mistake of the caller and counts as nothing.
    @inlinable @inline(__always)
    public func add(_ amount: Int) {
        add(UInt64(truncatingIfNeeded: max(amount, 0)))
    }

    @inlinable @inline(__always)
    public var value: UInt64 { storage.load(ordering: .relaxed) }
}

/// A number that goes up and down, written by one thread and read by any; see `Counter`.
public struct Gauge: ~Copyable, Sendable {
    @usableFromInline let storage = Atomic<Int64>(0)

    public init() {}

    @inlinable @inline(__always)
    public func increment() {
        add(1)
    }

    @inlinable @inline(__always)
    public func decrement() {
        add(-1)
    }

    @inlinable @inline(__always)
    public func add(_ amount: Int) {
        storage.store(storage.load(ordering: .relaxed) &+ Int64(amount), ordering: .relaxed)
    }

    @inlinable @inline(__always)
    public func set(_ value: Int) {
        storage.store(Int64(value), ordering: .relaxed)
    }

    @inlinable @inline(__always)
    public var value: Int64 { storage.load(ordering: .relaxed) }
}

/// Responses by class and by code, for one writer.
public struct StatusCounters: ~Copyable, Sendable {
    /// How many different codes are counted by name; services use fewer. Those that come later count in their class only, so a
    /// peer that invents codes cannot grow the table.
    public static let codeSlots = 24

    public let completed = Counter()
    /// 1xx through 5xx.
    let classes = InlineArray<5, Atomic<UInt64>> { _ in Atomic(0) }
    /// A code in the upper 16 bits and its count in the lower 48, in one word so that a reader never sees half an entry.
    let codes = InlineArray<24, Atomic<UInt64>> { _ in Atomic(0) }

    public init() {}

    /// Counts one response. Anything but 100 through 599 counts as completed only.
    public func record(_ status: Int) {
        completed.increment()
        guard (100...599).contains(status) else { return }
        let index = status / 100 - 1
        classes[index].store(classes[index].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        let code = UInt64(truncatingIfNeeded: status)
        for slot in 0..<Self.codeSlots {
            let entry = codes[slot].load(ordering: .relaxed)
            if entry == 0 {
                codes[slot].store(code << 48 | 1, ordering: .relaxed)
                return
            }
            if entry >> 48 == code {
                codes[slot].store(entry &+ 1, ordering: .relaxed)
                return
            }
        }
    }

    /// Responses of the class `digit`xx, 1 through 5.
    public func count(ofClass digit: Int) -> UInt64 {
        classes[digit - 1].load(ordering: .relaxed)
    }

    /// Responses with this code, 0 also where the table was full when it first came.
    public func count(of status: Int) -> UInt64 {
        var count: UInt64 = 0
        forEachCode { if $0 == status { count = $1 } }
        return count
    }

    func forEachCode(_ body: (_ code: Int, _ count: UInt64) -> Void) {
        for slot in 0..<Self.codeSlots {
            let entry = codes[slot].load(ordering: .relaxed)
            guard entry != 0 else { return }
            body(Int(entry >> 48), entry & 0xffff_ffff_ffff)
        }
    }
}

/// Counters named by a small index, for one writer: reasons that are an enum in another module.
public struct IndexedCounters: ~Copyable, Sendable {
    /// More than any such enum has cases; an index from here on counts in the last one.
    public static let slots = 64

    let counts = InlineArray<64, Atomic<UInt64>> { _ in Atomic(0) }

    public init() {}

    public func increment(_ index: Int) {
        let slot = index >= 0 && index < Self.slots ? index : Self.slots - 1
        counts[slot].store(counts[slot].load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    }

    public func count(_ index: Int) -> UInt64 {
        counts[index].load(ordering: .relaxed)
    }
}
