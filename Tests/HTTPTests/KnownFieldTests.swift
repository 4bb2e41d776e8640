import HTTP
import Testing

@Suite("Known fields")
struct KnownFieldTests {
    @Test("every known name is found, in any case, and nothing near it is", arguments: KnownField.allCases)
    func found(field: KnownField) {
        let name = "\(field.name)"
        #expect(look(name.utf8) == field)
        #expect(look(name.uppercased().utf8) == field)
        guard field != .other else { return }
        #expect(look((name + "x").utf8) == .other)
        for index in name.utf8.indices {
            var near = Array(name.utf8)
            near[name.utf8.distance(from: name.utf8.startIndex, to: index)] = UInt8(ascii: "0")
            #expect(look(near) == .other)
        }
    }

    private func look(_ name: some Sequence<UInt8>) -> KnownField {
        KnownField(Array(name).span)
    }
}
