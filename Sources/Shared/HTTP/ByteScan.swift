/// The byte classes of RFC 9110 and the scans over them. Loads are bounds-checked, and every SIMD operand has a type: an untyped literal
/// compiles to generic code that is 300 times slower.

extension RawSpan {
    // One comparison where the standard library's checked load has two; loops that compare the same way lose it altogether.

    @inlinable
    @inline(__always)
    public func byte(_ index: Int) -> UInt8 {
        precondition(UInt(bitPattern: index) < UInt(bitPattern: byteCount))
        return unsafe unsafeLoad(fromUncheckedByteOffset: index, as: UInt8.self)
    }

    @inlinable
    @inline(__always)
    func vector(_ index: Int) -> SIMD16<UInt8> {
        precondition(index >= 0 && index <= byteCount &- 16)
        return unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: SIMD16<UInt8>.self)
    }

    /// Two bytes, the first in the lower half.
    @inlinable
    @inline(__always)
    public func pair(_ index: Int) -> UInt16 {
        precondition(index >= 0 && index <= byteCount &- 2)
        return UInt16(littleEndian: unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt16.self))
    }

    /// Eight bytes, the first in the lowest bits.
    @inlinable
    @inline(__always)
    public func word(_ index: Int) -> UInt64 {
        precondition(index >= 0 && index <= byteCount &- 8)
        return UInt64(littleEndian: unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self))
    }

    /// The index of the first line feed at or behind `start`; the byte count if there is none.
    @inlinable
    public func indexOfLineFeed(from start: Int) -> Int {
        let lineFeed = SIMD16<UInt8>(repeating: 0x0A)
        var index = start
        while index <= byteCount &- 16 {
            let hit = firstTrue(vector(index) .== lineFeed)
            if hit < 16 { return index &+ hit }
            index &+= 16
        }
        while index < byteCount, byte(index) != 0x0A { index &+= 1 }
        return index
    }

    /// The end of the field value (or reason phrase) at `start`: the first control byte other than a tab.
    @inlinable
    @inline(__always)
    public func endOfValue(from start: Int) -> Int {
        let space = SIMD16<UInt8>(repeating: 0x20)
        let tab = SIMD16<UInt8>(repeating: 0x09)
        let delete = SIMD16<UInt8>(repeating: 0x7F)
        var index = start
        while index <= byteCount &- 16 {
            let bytes = vector(index)
            let hit = firstTrue(((bytes .< space) .& (bytes .!= tab)) .| (bytes .== delete))
            if hit < 16 { return index &+ hit }
            index &+= 16
        }
        while index < byteCount {
            let byte = byte(index)
            if (byte < 0x20 && byte != 0x09) || byte == 0x7F { break }
            index &+= 1
        }
        return index
    }

    /// The end of the letters, digits, hyphens and dots at `start`, of which nearly every field name and host is made.
    @inlinable
    @inline(__always)
    public func endOfPlain(from start: Int) -> Int {
        var index = start
        while index <= byteCount &- 16 {
            let hit = plainBytes(vector(index))
            if hit < 16 { return index &+ hit }
            index &+= 16
        }
        while index < byteCount {
            let byte = byte(index)
            if (byte | 0x20) &- 0x61 >= 26, !isDigit(byte), byte &- 0x2D >= 2 { break }
            index &+= 1
        }
        return index
    }

    /// The end of the field name at `start`: the first byte that is no token character.
    @inlinable
    @inline(__always)
    public func endOfName(from start: Int) -> Int {
        var index = endOfPlain(from: start)
        while index < byteCount, isToken(byte(index)) { index &+= 1 }
        return index
    }

    /// The end of the request target at `start`: the first byte that is not visible ASCII, or a `#`.
    @inlinable
    @inline(__always)
    public func endOfTarget(from start: Int) -> Int {
        var index = start
        while index <= byteCount &- 16 {
            let bytes = vector(index)
            let visible = bytes &- SIMD16<UInt8>(repeating: 0x21)
            let hit = firstTrue((visible .>= SIMD16<UInt8>(repeating: 0x5E)) .| (bytes .== SIMD16<UInt8>(repeating: 0x23)))
            if hit < 16 { return index &+ hit }
            index &+= 16
        }
        while index < byteCount {
            let byte = byte(index)
            if byte &- 0x21 >= 0x5E || byte == 0x23 { break }
            index &+= 1
        }
        return index
    }

    /// Whether `range` can be a field's value: no control characters but tabs. Looks behind its end, where there is something.
    @inlinable
    @inline(__always)
    public func isValue(_ range: Range<Int>) -> Bool {
        precondition(range.upperBound <= byteCount)
        let space = SIMD16<UInt8>(repeating: 0x20)
        let tab = SIMD16<UInt8>(repeating: 0x09)
        let delete = SIMD16<UInt8>(repeating: 0x7F)
        var index = range.lowerBound
        while index < range.upperBound {
            guard index <= byteCount &- 16 else {
                return extracting(index..<range.upperBound).endOfValue(from: 0) == range.upperBound &- index
            }
            let bytes = vector(index)
            let hit = firstTrue(((bytes .< space) .& (bytes .!= tab)) .| (bytes .== delete))
            if hit < 16 { return index &+ hit >= range.upperBound }
            index &+= 16
        }
        return true
    }

    /// Whether `range` can be a field's name. Looks behind its end, as `isValue` does.
    @inlinable
    @inline(__always)
    public func isName(_ range: Range<Int>) -> Bool {
        precondition(range.upperBound <= byteCount)
        guard !range.isEmpty else { return false }
        var index = range.lowerBound
        if index <= byteCount &- 16 {
            index &+= plainBytes(vector(index))
            if index >= range.upperBound { return true }
        }
        return extracting(index..<range.upperBound).endOfName(from: 0) == range.upperBound &- index
    }

    /// Whether `range`, which has no control characters but tabs, holds `text` (lower-case letters, digits, hyphens), in any case.
    @inlinable
    @inline(__always)
    public func equals(_ range: Range<Int>, _ text: StaticString) -> Bool {
        Span<UInt8>(_bytes: extracting(range)).equalsToken(text)
    }

    /// Whether two ranges of the same length hold the same, in any case.
    @inlinable
    public func equalsIgnoringCase(_ first: Range<Int>, _ second: Range<Int>) -> Bool {
        for offset in 0..<first.count where lowercase(byte(first.lowerBound + offset)) != lowercase(byte(second.lowerBound + offset)) {
            return false
        }
        return true
    }

    /// `range` without the spaces and tabs around it.
    @inlinable
    public func trimmed(_ range: Range<Int>) -> Range<Int> {
        var start = range.lowerBound
        var end = range.upperBound
        while start < end, isBlank(byte(start)) { start &+= 1 }
        while end > start, isBlank(byte(end &- 1)) { end &-= 1 }
        return start..<end
    }

    /// The next element of the comma-separated list in `rest`, trimmed; takes it from `rest`. Nil at the end; may be empty.
    @inlinable
    public func nextElement(_ rest: inout Range<Int>) -> Range<Int>? {
        guard !rest.isEmpty else { return nil }
        var end = rest.lowerBound
        while end < rest.upperBound, byte(end) != UInt8(ascii: ",") { end &+= 1 }
        let element = trimmed(rest.lowerBound..<end)
        rest = min(end + 1, rest.upperBound)..<rest.upperBound
        return element
    }
}

extension [UInt8] {
    @inlinable
    public var rawBytes: RawSpan {
        @_lifetime(borrow self)
        @inline(__always)
        get {
            // Every byte of a `UInt8` is part of its value.
            unsafe span.bytes
        }
    }
}

/// The index of the first lane that is true; 16 if none is.
@inlinable
@inline(__always)
func firstTrue(_ mask: SIMDMask<SIMD16<Int8>>) -> Int {
    let words = unsafe unsafeBitCast(mask, to: SIMD2<UInt64>.self)
    if words[0] != 0 { return words[0].trailingZeroBitCount &>> 3 }
    return 8 &+ words[1].trailingZeroBitCount &>> 3
}

/// How many lanes from the first on are letters, digits, hyphens or dots.
@inlinable
@inline(__always)
func plainBytes(_ bytes: SIMD16<UInt8>) -> Int {
    let letter = (bytes | SIMD16<UInt8>(repeating: 0x20)) &- SIMD16<UInt8>(repeating: 0x61)
    let digit = bytes &- SIMD16<UInt8>(repeating: 0x30)
    let other = bytes &- SIMD16<UInt8>(repeating: 0x2D)
    return firstTrue(
        (letter .>= SIMD16<UInt8>(repeating: 26)) .& (digit .>= SIMD16<UInt8>(repeating: 10))
            .& (other .>= SIMD16<UInt8>(repeating: 2)))
}

/// `tchar` of RFC 9110 section 5.6.2, from a 128-bit map.
@inlinable
@inline(__always)
public func isToken(_ byte: UInt8) -> Bool {
    // !#$%&'*+-. and the digits; then A-Z ^ _ ` a-z | ~
    let map: UInt64 = byte < 64 ? 0x03FF_6CFA_0000_0000 : 0x57FF_FFFF_C7FF_FFFE
    return byte < 128 && (map &>> UInt64(byte & 63)) & 1 == 1
}

@inlinable
@inline(__always)
public func isBlank(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x09
}

@inlinable
@inline(__always)
public func isDigit(_ byte: UInt8) -> Bool {
    byte &- 0x30 < 10
}

@inlinable
@inline(__always)
public func lowercase(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
}

/// The value of a hexadecimal digit; nil for another byte.
@inlinable
@inline(__always)
public func hexadecimalValue(_ byte: UInt8) -> UInt8? {
    if isDigit(byte) { return byte &- 0x30 }
    let letter = (byte | 0x20) &- 0x61
    return letter < 6 ? letter &+ 10 : nil
}
