public import Base
public import ProxyConfig

/// Requests that wait for room under a limit, of one worker. Bounded in number and in time.
///
/// First come, first served, as long as it runs empty now and then. When it has not for a while there is more work than capacity:
/// whoever waited longest is about to give up, so the newest is served, and is served fast; the oldest run into their time and are
/// refused. A queue that serves the oldest would make all of them late.
public struct AdmissionQueue<Element: BitwiseCopyable> {
    /// Of one that waits, for `cancel`.
    public struct Place: Hashable {
        fileprivate var slot: Int32
        fileprivate var generation: UInt32
    }

    private struct Slot {
        var element: Element?
        var expires: Instant
        var generation: UInt32 = 0
        var older: Int32
        /// Of a free slot: the next free one.
        var newer: Int32
    }

    private static var none: Int32 { -1 }

    public let capacity: Int
    /// Nobody waits longer.
    public let longestWait: Nanoseconds
    /// Not empty for so long is pressure.
    public let pressureAfter: Nanoseconds
    public private(set) var count = 0
    private var slots: [Slot] = []
    private var oldest = Self.none
    private var newest = Self.none
    private var free = Self.none
    private var emptyUntil = Instant(nanoseconds: 0)

    public init(capacity: Int, longestWait: Nanoseconds, pressureAfter: Nanoseconds) {
        self.capacity = max(min(capacity, Int(Int32.max)), 0)
        self.longestWait = longestWait
        self.pressureAfter = pressureAfter
    }

    public init(_ limits: QueueLimits) {
        self.init(
            capacity: Int(limits.capacity), longestWait: Nanoseconds(limits.longestWait), pressureAfter: Nanoseconds(limits.pressureAfter))
    }

    public func isUnderPressure(now: Instant) -> Bool {
        count > 0 && now - emptyUntil >= pressureAfter
    }

    /// When the oldest runs into its time; `.never` if nobody waits.
    public var nextExpiry: Instant { oldest == Self.none ? .never : slots[Int(oldest)].expires }

    /// Nil if it is full: refuse it.
    public mutating func enqueue(_ element: Element, now: Instant) -> Place? {
        guard count < capacity else { return nil }
        if count == 0 { emptyUntil = now }
        let index: Int32
        if free != Self.none {
            index = free
            free = slots[Int(index)].newer
        } else {
            index = Int32(slots.count)
            slots.append(Slot(element: nil, expires: now, older: Self.none, newer: Self.none))
        }
        slots[Int(index)].element = element
        slots[Int(index)].expires = now + longestWait
        slots[Int(index)].older = newest
        slots[Int(index)].newer = Self.none
        if newest == Self.none { oldest = index } else { slots[Int(newest)].newer = index }
        newest = index
        count += 1
        return Place(slot: index, generation: slots[Int(index)].generation)
    }

    /// Whose turn it is, now that there is room; nil if nobody waits. Ask `expired` first.
    public mutating func next(now: Instant) -> Element? {
        guard count > 0 else { return nil }
        return remove(isUnderPressure(now: now) ? newest : oldest)
    }

    /// One that waited too long: refuse it, and ask again.
    public mutating func expired(now: Instant) -> Element? {
        oldest != Self.none && slots[Int(oldest)].expires <= now ? remove(oldest) : nil
    }

    /// Its caller went away. Does nothing if it does not wait any more.
    public mutating func cancel(_ place: Place) {
        guard slots.indices.contains(Int(place.slot)), slots[Int(place.slot)].generation == place.generation,
            slots[Int(place.slot)].element != nil
        else { return }
        _ = remove(place.slot)
    }

    private mutating func remove(_ index: Int32) -> Element? {
        let slot = slots[Int(index)]
        if slot.older == Self.none { oldest = slot.newer } else { slots[Int(slot.older)].newer = slot.newer }
        if slot.newer == Self.none { newest = slot.older } else { slots[Int(slot.newer)].older = slot.older }
        slots[Int(index)].element = nil
        slots[Int(index)].generation &+= 1
        slots[Int(index)].newer = free
        free = index
        count -= 1
        return slot.element
    }
}
