internal import Base
internal import HTTP

/// The header block that is being read: where its fields go, and what they have cost.
///
/// Fields are gathered in memory of the worker and copied into the head when the block ends: appending to a class's arrays field by field
/// costs three times as much.
@safe struct HeaderBlock: ~Copyable {
    /// Nil between blocks, and while a block is read that nobody wants. The session holds it as long as its block is read: a block ends,
    /// or is given up, before its stream closes.
    private(set) var stream: Unmanaged<HTTP2Stream>?
    /// Retained while there is a stream.
    private(set) var scratch: Unmanaged<BlockScratch>?
    private(set) var isTrailers = false
    /// Names, values and 32 bytes for each field (RFC 9113 section 6.5.2).
    var bytes = 0
    var fields = 0
    var pseudoFields = 0
    var cookies = 0

    deinit {
        unsafe scratch?.release()
    }

    var isOpen: Bool { unsafe stream != nil }

    func isOf(_ other: HTTP2Stream) -> Bool {
        unsafe stream?.toOpaque() == Unmanaged.passUnretained(other).toOpaque()
    }

    mutating func begin(_ stream: HTTP2Stream, isTrailers: Bool, _ pool: HTTP2Pool) {
        unsafe self.stream = Unmanaged.passUnretained(stream)
        if unsafe scratch == nil { unsafe scratch = Unmanaged.passRetained(pool.takeScratch()) }
        self.isTrailers = isTrailers
        bytes = 0
        fields = 0
        pseudoFields = 0
        cookies = 0
    }

    /// Ends the block, or what is heard of it.
    mutating func end(_ pool: HTTP2Pool) {
        unsafe stream = nil
        if let held = unsafe scratch {
            unsafe scratch = nil
            unsafe pool.giveScratch(held.takeRetainedValue())
        }
    }
}

/// What a header block has brought so far: fields as lines, and ranges of them.
@safe final class BlockScratch {
    private(set) var text = ByteBuffer()
    private var fields: UnsafeMutablePointer<Head.Field>
    private var capacity = 64
    private(set) var count = 0

    init() {
        unsafe fields = .allocate(capacity: capacity)
    }

    deinit {
        unsafe fields.deallocate()
    }

    /// Appends a field as HTTP/1 would write it, so that its encoder can copy runs of fields at once.
    @inline(__always)
    func append(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, known: KnownField, neverIndexed: Bool) {
        let length = name.count &+ value.count &+ 4
        let start = text.count
        // Room for a length above 0 is memory.
        let line = unsafe text.unsafeRoom(atLeast: length).baseAddress.unsafelyUnwrapped
        if let source = name.baseAddress { unsafe line.copyMemory(from: source, byteCount: name.count) }
        unsafe line.storeBytes(of: 0x203A, toByteOffset: name.count, as: UInt16.self)
        if let source = value.baseAddress { unsafe (line + name.count + 2).copyMemory(from: source, byteCount: value.count) }
        unsafe line.storeBytes(of: 0x0A0D, toByteOffset: length &- 2, as: UInt16.self)
        text.didAppend(length)
        let valueStart = start &+ name.count &+ 2
        var field = Head.Field(name: start..<start &+ name.count, value: valueStart..<valueStart &+ value.count, known: known)
        field.neverIndexed = neverIndexed
        if count == capacity { grow() }
        unsafe (fields + count).initialize(to: field)
        count &+= 1
    }

    /// Appends bytes that are no field, and returns where they are.
    func append(_ value: UnsafeBufferPointer<UInt8>) -> Range<Int> {
        let start = text.count
        unsafe text.append(copying: UnsafeRawBufferPointer(value))
        return start..<start &+ value.count
    }

    /// Moves what has come behind what the head has; ranges hold if that is nothing.
    func move(to head: Head) {
        unsafe head.bytes.append(contentsOf: text.unsafeBytes)
        unsafe head.fields.append(contentsOf: UnsafeBufferPointer(start: fields, count: count))
        removeAll()
    }

    func removeAll() {
        text.removeAll()
        count = 0
    }

    @inline(never)
    private func grow() {
        let grown = UnsafeMutablePointer<Head.Field>.allocate(capacity: capacity * 2)
        unsafe grown.update(from: fields, count: count)
        unsafe fields.deallocate()
        unsafe fields = grown
        capacity *= 2
    }
}
