import Foundation
import Testing

@testable import outrigger

@Suite("Files")
final class FileTests {
    private let directory = FileManager.default.temporaryDirectory.appendingPathComponent("outrigger-\(UUID().uuidString)").path

    init() throws {
        try FileManager.default.createDirectory(atPath: "\(directory)/mesh", withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    private func write(_ text: String, _ name: String) throws {
        try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
    }

    @Test("A change is told once, when two looks saw the same")
    func change() throws {
        try write("a", "mesh/one.yaml")
        var watch = FileWatch(paths: ["\(directory)/mesh", "-"])
        func changed() -> Bool { watch.hasChanged() }
        #expect(!changed())
        try write("ab", "mesh/one.yaml")
        #expect(!changed())
        #expect(changed())
        #expect(!changed())
    }

    @Test("A file that is still growing is waited for")
    func growing() throws {
        try write("a", "mesh/one.yaml")
        var watch = FileWatch(paths: ["\(directory)/mesh/one.yaml"])
        func changed() -> Bool { watch.hasChanged() }
        for text in ["ab", "abc", "abcd"] {
            try write(text, "mesh/one.yaml")
            #expect(!changed())
        }
        #expect(changed())
    }

    @Test("New files, files that go and files that come back are changes; hidden ones are not")
    func comingAndGoing() throws {
        var watch = FileWatch(paths: ["\(directory)/mesh"])
        func changed() -> Bool { watch.hasChanged() }
        func settles() -> Bool {
            let first = changed()
            return changed() || first
        }
        try write("a", "mesh/one.yaml")
        #expect(settles())
        try FileManager.default.removeItem(atPath: "\(directory)/mesh/one.yaml")
        #expect(settles())
        try FileManager.default.createDirectory(atPath: "\(directory)/mesh/below", withIntermediateDirectories: true)
        try write("a", "mesh/below/two.yaml")
        #expect(settles())
        #expect(!settles())
    }

    @Test("A change that could not be used is told again")
    func forgotten() throws {
        var watch = FileWatch(paths: ["\(directory)/mesh"])
        func changed() -> Bool { watch.hasChanged() }
        try write("a", "mesh/one.yaml")
        #expect(!changed())
        #expect(changed())
        watch.forget()
        #expect(changed())
    }

    @Test("A file is replaced whole, with the mode asked for; nothing else is left")
    func atomic() throws {
        try write("old", "file")
        try AtomicFile.write(Array("new".utf8), to: "\(directory)/file", mode: 0o600)
        #expect(try String(contentsOfFile: "\(directory)/file", encoding: .utf8) == "new")
        let attributes = try FileManager.default.attributesOfItem(atPath: "\(directory)/file")
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory).sorted() == ["file", "mesh"])
    }

    @Test("Where there is no directory the system's word is passed on")
    func noDirectory() {
        #expect(throws: FileError.self) { try AtomicFile.write([], to: "\(directory)/none/file") }
    }
}
