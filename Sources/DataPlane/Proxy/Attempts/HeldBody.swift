import Base

/// The body of a request as far as it has come, kept while it may have to be sent: the stream waits for an endpoint, or the endpoint
/// may refuse it unprocessed, or a failed attempt may be made again.
struct HeldBody: ~Copyable {
    /// A longer body is sent once and not kept.
    static let limit = 64 * 1024

    private(set) var buffer = ByteBuffer()
    /// All of the body so far is here.
    private(set) var isWhole = true

    var isEmpty: Bool { buffer.isEmpty }
    var isTooLong: Bool { buffer.count > Self.limit }

    func hasRoom(for count: Int) -> Bool { isWhole && buffer.count + count <= Self.limit }

    mutating func append(_ piece: UnsafeRawBufferPointer, _ pool: BufferPool) {
        if buffer.allocatedBytes == 0 { buffer = pool.take() }
        unsafe buffer.append(copying: piece)
    }

    /// Gives it up: from here on the body cannot be sent again.
    mutating func forget(_ pool: BufferPool) {
        isWhole = false
        release(pool)
    }

    /// For the next request.
    mutating func reset(_ pool: BufferPool) {
        release(pool)
        isWhole = true
    }

    private mutating func release(_ pool: BufferPool) {
        guard buffer.allocatedBytes > 0 else { return }
        var given = ByteBuffer()
        swap(&given, &buffer)
        pool.give(given)
    }
}
