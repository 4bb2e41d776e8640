/// Finds the virtual host of an authority: one hash table for all kinds of domains, names compared without case, no String made.
struct DomainIndex: Sendable {
    enum Kind: UInt8 {
        case exact
        /// `*.suffix`, held without the asterisk.
        case suffix
        /// `prefix.*`, held without the asterisk.
        case prefix
    }

    private struct Slot {
        var host: Int32 = -1
        var kind = Kind.exact
        var start: UInt32 = 0
        var count: UInt32 = 0
    }

    private var slots: [Slot] = [Slot()]
    private var used = 0
    /// In lower case.
    private var names: [UInt8] = []
    /// The lengths that wildcards have, the longest first.
    private var suffixLengths: [Int] = []
    private var prefixLengths: [Int] = []
    private var catchAll = -1

    /// Adds a domain; false where it is there already, of this or another host.
    mutating func insert(_ domain: String, host: Int) -> Bool {
        var name = Array(domain.utf8)
        for index in name.indices where name[index] &- 0x41 < 26 { name[index] |= 0x20 }
        if name == [UInt8(ascii: "*")] {
            guard catchAll < 0 else { return false }
            catchAll = host
            return true
        }
        var kind = Kind.exact
        if name.first == UInt8(ascii: "*") {
            kind = .suffix
            name.removeFirst()
        } else if name.last == UInt8(ascii: "*") {
            kind = .prefix
            name.removeLast()
        }
        guard find(kind, name.span, 0..<name.count) < 0 else { return false }
        switch kind {
        case .exact: break
        case .suffix: Self.note(name.count, in: &suffixLengths)
        case .prefix: Self.note(name.count, in: &prefixLengths)
        }
        if (used + 1) * 2 > slots.count { grow() }
        let start = names.count
        names += name
        place(Slot(host: Int32(host), kind: kind, start: UInt32(start), count: UInt32(name.count)))
        used += 1
        return true
    }

    private static func note(_ length: Int, in lengths: inout [Int]) {
        if lengths.contains(length) { return }
        lengths.append(length)
        lengths.sort(by: >)
    }

    private mutating func grow() {
        let old = slots
        slots = [Slot](repeating: Slot(), count: max(8, old.count * 2))
        for slot in old where slot.host >= 0 { place(slot) }
    }

    private mutating func place(_ slot: Slot) {
        var index = Self.hash(slot.kind, names.span, Int(slot.start)..<Int(slot.start + slot.count)) & (slots.count - 1)
        while slots[index].host >= 0 { index = (index + 1) & (slots.count - 1) }
        slots[index] = slot
    }

    /// The virtual host of `authority`, or -1.
    ///
    /// Exact beats suffix beats prefix beats `*`, longer wildcards beat shorter ones. Within each, `host:port` is tried before `host`;
    /// between the two `host:*`, which takes the ports that stand in no domain away from `host`.
    func lookUp(_ bytes: Span<UInt8>, _ authority: Range<Int>) -> Int {
        let host = authority.lowerBound..<Self.endOfHost(bytes, authority)
        let hasPort = host.upperBound < authority.upperBound
        var found = find(.exact, bytes, authority)
        if found >= 0 { return found }
        if hasPort {
            // `host:*` stands for the ports of a host that no domain names; without it they are the host's own.
            if !prefixLengths.isEmpty {
                found = find(.prefix, bytes, host.lowerBound..<host.upperBound + 1)
                if found >= 0 { return found }
            }
            found = find(.exact, bytes, host)
            if found >= 0 { return found }
        }
        for index in suffixLengths.indices {
            let length = suffixLengths[index]
            // The asterisk stands for at least one byte.
            if length < authority.count {
                found = find(.suffix, bytes, authority.upperBound - length..<authority.upperBound)
                if found >= 0 { return found }
            }
            if hasPort, length < host.count {
                found = find(.suffix, bytes, host.upperBound - length..<host.upperBound)
                if found >= 0 { return found }
            }
        }
        for index in prefixLengths.indices where prefixLengths[index] < host.count {
            found = find(.prefix, bytes, authority.lowerBound..<authority.lowerBound + prefixLengths[index])
            if found >= 0 { return found }
        }
        return catchAll
    }

    /// Where the port's colon stands, or the end. An IPv6 address has its colons in brackets; bare ones make no port.
    private static func endOfHost(_ bytes: Span<UInt8>, _ authority: Range<Int>) -> Int {
        var index = authority.upperBound
        while index > authority.lowerBound, bytes[index - 1] &- 0x30 < 10 { index -= 1 }
        guard index > authority.lowerBound, bytes[index - 1] == UInt8(ascii: ":") else { return authority.upperBound }
        index -= 1
        if index > authority.lowerBound, bytes[index - 1] == UInt8(ascii: "]") { return index }
        return bytes.firstIndex(of: UInt8(ascii: ":"), in: authority) == index ? index : authority.upperBound
    }

    private func find(_ kind: Kind, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
        var index = Self.hash(kind, bytes, range) & (slots.count - 1)
        while true {
            let slot = slots[index]
            if slot.host < 0 { return -1 }
            if slot.kind == kind, Int(slot.count) == range.count, equals(slot, bytes, range) { return Int(slot.host) }
            index = (index + 1) & (slots.count - 1)
        }
    }

    private func equals(_ slot: Slot, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        let start = Int(slot.start)
        // Nearly everybody writes hosts in lower case.
        if bytes.holds(range, sameAs: names.span, from: start) { return true }
        for offset in 0..<range.count {
            var byte = bytes[range.lowerBound + offset]
            if byte &- 0x41 < 26 { byte |= 0x20 }
            if byte != names[start + offset] { return false }
        }
        return true
    }

    /// Domains come from the configuration, so callers cannot make collisions.
    private static func hash(_ kind: Kind, _ bytes: Span<UInt8>, _ range: Range<Int>) -> Int {
        Int(truncatingIfNeeded: bytes.caselessHash(of: range, seed: UInt64(kind.rawValue)) >> 1)
    }
}
