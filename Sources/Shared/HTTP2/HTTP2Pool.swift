internal import CNghttp2
internal import HTTP

/// What the sessions of one worker share, so that an exchange allocates nothing and an idle connection holds nothing.
public final class HTTP2Pool {
    private var streams: [HTTP2Stream] = []
    /// The fields of the head that is being submitted.
    var fields = FieldList()

    let memory = LibraryMemory()
    /// One block is read at a time, unless one has come in parts.
    private var scratch: BlockScratch?

    /// Twice the streams of a busy worker; what is more goes back to the allocator.
    private static let maxStreams = 1024

    public init() {}

    func takeScratch() -> BlockScratch {
        guard let held = scratch.take() else { return BlockScratch() }
        return held
    }

    func giveScratch(_ scratch: BlockScratch) {
        scratch.removeAll()
        self.scratch = scratch
    }

    func take() -> HTTP2Stream {
        streams.popLast() ?? HTTP2Stream()
    }

    func give(_ stream: HTTP2Stream) {
        guard streams.count < Self.maxStreams else { return }
        stream.reuse()
        streams.append(stream)
    }
}
