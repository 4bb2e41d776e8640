/// The endpoints that the attempts of one request used so far: a retry goes elsewhere if it can. Fits into a stream, allocates nothing.
public struct TriedEndpoints: Sendable {
    /// More attempts than that are not remembered: retries are fewer.
    public static let capacity = 8

    private var slots = InlineArray<8, UInt32>(repeating: 0)
    public private(set) var count = 0

    public init() {}

    public var isEmpty: Bool { count == 0 }

    public mutating func insert(_ index: Int) {
        guard count < Self.capacity, !contains(index) else { return }
        slots[count] = UInt32(index)
        count += 1
    }

    public func contains(_ index: Int) -> Bool {
        for position in 0..<count where slots[position] == UInt32(index) { return true }
        return false
    }
}
