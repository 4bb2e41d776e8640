import Glibc

/// Bytes in order of arrival: appended at the end, consumed from the front. Owns its memory and frees it.
///
/// An empty buffer owns nothing, so a connection at rest costs only the struct. Memory grows by doubling and is given back by
/// `release()`; whoever appends bounds the size, not the buffer.
@safe public struct ByteBuffer: ~Copyable {
    @usableFromInline var base: UnsafeMutableRawPointer?
    @usableFromInline var capacity = 0
    @usableFromInline var start = 0
    @usableFromInline var end = 0

    public init() {
        unsafe base = nil
    }

    public init(capacity: Int) {
        unsafe base = nil
        reserve(capacity)
    }

    deinit {
        // The one owner of memory that only this struct has ever handed out, and only as spans bound to it.
        unsafe free(base)
    }

    @inlinable @inline(__always) public var count: Int { end &- start }
    @inlinable @inline(__always) public var isEmpty: Bool { end == start }
    public var allocatedBytes: Int { capacity }

    /// The bytes that are there.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let pointer = unsafe UnsafeRawBufferPointer(start: base.map { unsafe UnsafeRawPointer($0 + start) }, count: count)
            return unsafe _overrideLifetime(RawSpan(_unsafeBytes: pointer), borrowing: self)
        }
    }

    /// The bytes that are there, for a system call. The pointer must not outlive the call of `body`.
    @inlinable
    public func withUnsafeBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        unsafe body(unsafeBytes)
    }

    /// The same without a closure: valid until the buffer next changes.
    @inlinable
    public var unsafeBytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: base.map { unsafe UnsafeRawPointer($0 + start) }, count: end &- start)
    }

    /// Room for at least `count` more bytes, for a read: fill it from the front and call `didAppend`.
    public mutating func unsafeRoom(atLeast count: Int) -> UnsafeMutableRawBufferPointer {
        reserve(count)
        return unsafe UnsafeMutableRawBufferPointer(start: base.map { unsafe $0 + end }, count: capacity &- end)
    }

    public mutating func didAppend(_ count: Int) {
        precondition(count >= 0 && count <= capacity &- end, "appended \(count) bytes into room for \(capacity - end)")
        end &+= count
    }

    /// Makes room for `count` more bytes; moves or grows only if there is not enough at the end.
    @inlinable @inline(__always)
    public mutating func reserve(_ count: Int) {
        if capacity &- end < count { makeRoom(count) }
    }

    @inline(never) @usableFromInline
    mutating func makeRoom(_ count: Int) {
        let held = self.count
        if start > 0, capacity &- held >= count, start >= held {
            if let base = unsafe base { unsafe memcpy(base, base + start, held) }
        } else {
            var size = max(capacity, 256)
            while size &- held < count { size *= 2 }
            guard let grown = unsafe malloc(size) else { fatalError("out of memory: \(size) bytes for a buffer") }
            if let base = unsafe base {
                unsafe memcpy(grown, base + start, held)
                unsafe free(base)
            }
            unsafe base = grown
            capacity = size
        }
        start = 0
        end = held
    }

    @inlinable @inline(__always)
    public mutating func append(_ byte: UInt8) {
        reserve(1)
        unsafe base.unsafelyUnwrapped.storeBytes(of: byte, toByteOffset: end, as: UInt8.self)
        end &+= 1
    }

    @inlinable @inline(__always)
    public mutating func append(copying source: UnsafeRawPointer, count: Int) {
        guard count > 0 else { return }
        reserve(count)
        unsafe (base.unsafelyUnwrapped + end).copyMemory(from: source, byteCount: count)
        end &+= count
    }

    @inlinable
    public mutating func append(copying source: UnsafeRawBufferPointer) {
        guard let pointer = source.baseAddress else { return }
        unsafe append(copying: pointer, count: source.count)
    }

    @inlinable
    public mutating func append(_ source: RawSpan) {
        unsafe source.withUnsafeBytes { unsafe append(copying: $0) }
    }

    @inlinable
    public mutating func append(_ text: StaticString) {
        unsafe append(copying: UnsafeRawPointer(text.utf8Start), count: text.utf8CodeUnitCount)
    }

    /// A slice of an array: one bounds check, one copy.
    @inlinable
    public mutating func append(_ array: [UInt8], _ range: Range<Int>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= array.count, "range outside of the array")
        unsafe array.withUnsafeBytes { source in
            guard let pointer = source.baseAddress else { return }
            unsafe append(copying: pointer + range.lowerBound, count: range.count)
        }
    }

    @inlinable
    public mutating func append(_ array: [UInt8]) {
        append(array, 0..<array.count)
    }

    /// For cold paths. Disfavoured, or a literal would become a `String` and cost ten times what a `StaticString` does.
    @_disfavoredOverload
    public mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { unsafe append(copying: UnsafeRawBufferPointer($0)) }
    }

    public mutating func append(decimal number: Int) {
        if number < 0 { append(UInt8(ascii: "-")) }
        append(digitsOf: UInt64(number.magnitude), radix: 10)
    }

    public mutating func append(hexadecimal number: Int) {
        append(digitsOf: UInt64(number), radix: 16)
    }

    @inline(__always)
    private mutating func append(digitsOf number: UInt64, radix: UInt64) {
        reserve(20)
        var width = 1
        var rest = number / radix
        while rest > 0 {
            width += 1
            rest /= radix
        }
        var position = end + width
        rest = number
        repeat {
            position -= 1
            let digit = UInt8(truncatingIfNeeded: rest % radix)
            unsafe base.unsafelyUnwrapped.storeBytes(of: digit < 10 ? 0x30 + digit : 0x57 + digit, toByteOffset: position, as: UInt8.self)
            rest /= radix
        } while rest > 0
        end += width
    }

    /// Drops `count` bytes from the front.
    public mutating func consume(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "consumed \(count) of \(self.count) bytes")
        start &+= count
        if start == end {
            start = 0
            end = 0
        }
    }

    /// Drops what stands behind the first `count` bytes.
    public mutating func truncate(to count: Int) {
        precondition(count >= 0 && count <= self.count)
        end = start &+ count
    }

    /// Forgets the bytes, keeps the memory.
    public mutating func removeAll() {
        start = 0
        end = 0
    }

    /// Forgets the bytes and gives the memory back.
    public mutating func release() {
        unsafe free(base)
        unsafe base = nil
        capacity = 0
        start = 0
        end = 0
    }
}

// Owns its memory alone, so handing over the buffer hands over the memory.
extension ByteBuffer: @unchecked Sendable {}
