public import HTTP2

/// What the links of one loop share, so that one at rest owns no memory: room to read into, and the parts of HTTP/2 that are used again.
@safe public final class LinkBuffers {
    /// What a read fills: ciphertext, or plaintext where there is no TLS. Used within one `received`.
    let input: UnsafeMutableRawBufferPointer
    /// What TLS decrypts into.
    let plaintext: UnsafeMutableRawBufferPointer
    public let http2 = HTTP2Pool()

    /// - Parameter bytes: of each of the two. The system gives memory to those pages only that are ever touched.
    public init(bytes: Int = 64 * 1024) {
        precondition(bytes >= 1024, "\(bytes) bytes to read into")
        unsafe input = .allocate(byteCount: bytes, alignment: 64)
        unsafe plaintext = .allocate(byteCount: bytes, alignment: 64)
    }

    deinit {
        unsafe input.deallocate()
        unsafe plaintext.deallocate()
    }
}
