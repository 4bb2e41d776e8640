import Base

/// Output buffers that nobody needs right now, so that writing allocates nothing after warm-up.
@safe final class BufferPool {
    private let spares: UnsafeMutablePointer<ByteBuffer>
    private var count = 0
    /// As many as can be in use within one turn of the loop, mostly; more are allocated and freed.
    private static let capacity = 64
    private static let initialBytes = 4096
    /// A buffer that grew beyond this goes back to the system.
    private static let keepBytes = 128 * 1024

    init() {
        unsafe spares = .allocate(capacity: Self.capacity)
    }

    deinit {
        unsafe spares.deinitialize(count: count)
        unsafe spares.deallocate()
    }

    func take() -> ByteBuffer {
        guard count > 0 else { return ByteBuffer(capacity: Self.initialBytes) }
        count -= 1
        return unsafe (spares + count).move()
    }

    func give(_ buffer: consuming ByteBuffer) {
        guard count < Self.capacity, buffer.allocatedBytes <= Self.keepBytes else { return }
        buffer.removeAll()
        unsafe (spares + count).initialize(to: buffer)
        count += 1
    }
}
