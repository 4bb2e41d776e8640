public import Base

/// Something with at most one deadline at a time. Subclass it and override `deadlineReached`.
///
/// Moving a deadline later costs one store: the wheel looks again when the old one is due and re-files. So an idle timeout that moves
/// with every request is free, and a deadline of `.never` needs no cancelling.
open class Timed {
    public internal(set) final var deadline = Instant.never
    /// Where the wheel holds this object; -1 = nowhere.
    final var wheelNode: Int32 = -1
    /// The tick under which it is filed.
    final var filedTick = Int64.max

    public init() {}

    /// The deadline has passed; it is `.never` again.
    open func deadlineReached(now: Instant) {}
}

/// A hierarchical timing wheel: five levels of 64 slots, one tick about 4 ms, 52 days in all.
///
/// Filing, cancelling and finding the next expiry are O(1); nothing is unsafe: nodes are links between indices of one array.
struct TimerWheel: ~Copyable {
    private struct Node {
        var owner: Timed?
        var previous: Int32
        var next: Int32
        var slot: Int32
    }

    /// 2^22 ns. Timeouts are some milliseconds late, never early.
    private static let tickShift: Int64 = 22
    private static let levels = 5

    private var nodes: [Node] = []
    private var freeNode: Int32 = -1
    private var heads = [Int32](repeating: -1, count: Self.levels * 64)
    private var occupied = [UInt64](repeating: 0, count: Self.levels)
    private var current: Int64

    init(now: Instant) {
        current = now.nanoseconds >> Self.tickShift
    }

    private static func tick(_ instant: Instant) -> Int64 {
        (instant.nanoseconds >> tickShift) &+ 1
    }

    mutating func set(_ object: Timed, _ deadline: Instant) {
        object.deadline = deadline
        guard deadline != .never else { return }
        let tick = max(Self.tick(deadline), current + 1)
        guard tick < object.filedTick else { return }
        if object.wheelNode >= 0 { unlink(object.wheelNode) }
        file(object, tick)
    }

    mutating func cancel(_ object: Timed) {
        object.deadline = .never
        guard object.wheelNode >= 0 else { return }
        unlink(object.wheelNode)
        release(object)
    }

    /// When to look again; nil if nothing is filed.
    func nextExpiry() -> Instant? {
        guard let tick = nextTick() else { return nil }
        return Instant(nanoseconds: tick << Self.tickShift)
    }

    private func nextTick() -> Int64? {
        var earliest: Int64?
        for level in 0..<Self.levels where occupied[level] != 0 {
            let shift = Int64(6 * level)
            let position = current >> shift
            let turned = Self.rotateRight(occupied[level], by: Int(truncatingIfNeeded: position & 63) + 1)
            let start = (position + Int64(turned.trailingZeroBitCount) + 1) << shift
            if start < earliest ?? .max { earliest = start }
        }
        return earliest
    }

    private static func rotateRight(_ bits: UInt64, by count: Int) -> UInt64 {
        let count = count & 63
        return count == 0 ? bits : bits >> UInt64(count) | bits << UInt64(64 - count)
    }

    /// Moves to `now` and hands out, one a call, the objects whose deadline has passed. Call until it returns nil.
    mutating func nextExpired(now: Instant) -> Timed? {
        let target = now.nanoseconds >> Self.tickShift
        while true {
            while let object = popDue() {
                if object.deadline <= now {
                    object.deadline = .never
                    return object
                }
                if object.deadline != .never { file(object, max(Self.tick(object.deadline), current + 1)) }
            }
            guard let tick = nextTick(), tick <= target else {
                current = max(current, target)
                return nil
            }
            current = tick
            cascade()
        }
    }

    /// The first object of the slot that `current` points at on the lowest level.
    private mutating func popDue() -> Timed? {
        pop(slot: Int(current & 63))
    }

    private mutating func pop(slot: Int) -> Timed? {
        let index = heads[slot]
        guard index >= 0, let object = nodes[Int(index)].owner else { return nil }
        unlink(index)
        release(object)
        return object
    }

    /// Files again, lower down, what stands in the upper slots that begin at `current`.
    private mutating func cascade() {
        for level in 1..<Self.levels {
            let shift = Int64(6 * level)
            guard current & ((1 << shift) - 1) == 0 else { return }
            let slot = level * 64 + Int((current >> shift) & 63)
            // Lazily moved deadlines may file back into this very slot one lap on: take what is there now, no more.
            var waiting: [Timed] = []
            while let object = pop(slot: slot) { waiting.append(object) }
            for object in waiting where object.deadline != .never {
                file(object, max(Self.tick(object.deadline), current))
            }
        }
    }

    private mutating func file(_ object: Timed, _ tick: Int64) {
        let delta = tick - current
        var level = 0
        while level < Self.levels - 1, delta >= 1 << Int64(6 * (level + 1)) { level += 1 }
        let bounded = min(tick, current + (1 << Int64(6 * Self.levels)) - 1)
        let slot = level * 64 + Int((bounded >> Int64(6 * level)) & 63)
        let index: Int32
        if freeNode >= 0 {
            index = freeNode
            freeNode = nodes[Int(index)].next
        } else {
            index = Int32(nodes.count)
            nodes.append(Node(owner: nil, previous: -1, next: -1, slot: 0))
        }
        let head = heads[slot]
        nodes[Int(index)] = Node(owner: object, previous: -1, next: head, slot: Int32(slot))
        if head >= 0 { nodes[Int(head)].previous = index }
        heads[slot] = index
        occupied[level] |= 1 << UInt64(slot & 63)
        object.wheelNode = index
        object.filedTick = tick
    }

    private mutating func unlink(_ index: Int32) {
        let node = nodes[Int(index)]
        if node.previous >= 0 { nodes[Int(node.previous)].next = node.next } else { heads[Int(node.slot)] = node.next }
        if node.next >= 0 { nodes[Int(node.next)].previous = node.previous }
        if heads[Int(node.slot)] < 0 { occupied[Int(node.slot) / 64] &= ~(1 << UInt64(node.slot & 63)) }
        nodes[Int(index)] = Node(owner: nil, previous: -1, next: freeNode, slot: 0)
        freeNode = index
    }

    private func release(_ object: Timed) {
        object.wheelNode = -1
        object.filedTick = .max
    }
}

/// Calls a closure at its deadline, for owners that are not `Timed` themselves. Cancel it before the last reference to it goes.
public final class LoopTimer: Timed {
    private let action: (Instant) -> Void

    public init(_ action: @escaping (Instant) -> Void) {
        self.action = action
    }

    public override func deadlineReached(now: Instant) {
        action(now)
    }
}
