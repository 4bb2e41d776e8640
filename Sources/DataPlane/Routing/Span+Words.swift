/// Comparing and searching bytes several at a time. The unsafe loads of this file stay within what each function's precondition checks.
extension Span<UInt8> {
    /// Whether `self[range]` is the same as `other` from `start` on.
    @inline(__always)
    func holds(_ range: Range<Int>, sameAs other: Span<UInt8>, from start: Int) -> Bool {
        let count = range.count
        precondition(range.lowerBound >= 0 && range.upperBound <= self.count && start >= 0 && start <= other.count - count)
        let left = unsafe bytes
        let right = unsafe other.bytes
        var offset = 0
        while offset &+ 8 <= count {
            let word = unsafe left.unsafeLoadUnaligned(fromByteOffset: range.lowerBound &+ offset, as: UInt64.self)
            if unsafe word != right.unsafeLoadUnaligned(fromByteOffset: start &+ offset, as: UInt64.self) { return false }
            offset &+= 8
        }
        while offset < count {
            let byte = unsafe left.unsafeLoad(fromByteOffset: range.lowerBound &+ offset, as: UInt8.self)
            if unsafe byte != right.unsafeLoad(fromByteOffset: start &+ offset, as: UInt8.self) { return false }
            offset &+= 1
        }
        return true
    }

    /// Where `byte` first stands in `self[range]`, or the range's end.
    @inline(__always)
    func firstIndex(of byte: UInt8, in range: Range<Int>) -> Int {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        let bytes = unsafe bytes
        let wanted = SIMD16<UInt8>(repeating: byte)
        var index = range.lowerBound
        // What follows the range is read too, and then ignored.
        while index < range.upperBound, index &+ 16 <= count {
            let lane = (unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index, as: SIMD16<UInt8>.self) .== wanted).firstLane
            if lane < 16 { return Swift.min(index &+ lane, range.upperBound) }
            index &+= 16
        }
        while index < range.upperBound {
            if unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self) == byte { return index }
            index &+= 1
        }
        return range.upperBound
    }

    /// A hash of `self[range]` that takes upper-case letters for lower-case ones (and some signs for others).
    @inline(__always)
    func caselessHash(of range: Range<Int>, seed: UInt64) -> UInt64 {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        let bytes = unsafe bytes
        var hash = seed &+ UInt64(range.count) &* 0x9e37_79b9_7f4a_7c15
        var index = range.lowerBound
        while index &+ 8 <= range.upperBound {
            let word = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index, as: UInt64.self)
            hash = Self.mix(hash ^ (word | 0x2020_2020_2020_2020))
            index &+= 8
        }
        var tail: UInt64 = 0
        while index < range.upperBound {
            tail = tail << 8 | UInt64(unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self) | 0x20)
            index &+= 1
        }
        return Self.mix(hash ^ tail)
    }

    @inline(__always)
    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xd6e8_feb8_6659_fd93)
        return product.high ^ product.low
    }
}

extension SIMDMask<SIMD16<Int8>> {
    /// The first lane that is set, or 16.
    @inline(__always)
    var firstLane: Int {
        let halves = unsafe unsafeBitCast(self, to: SIMD2<UInt64>.self)
        let low = halves[0].trailingZeroBitCount
        return low < 64 ? low >> 3 : 8 &+ halves[1].trailingZeroBitCount >> 3
    }
}
