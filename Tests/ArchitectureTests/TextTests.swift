import Foundation
import Testing

@Suite("Files")
struct TextTests {
    /// More does not fit into one head.
    private static let longestFile = 700

    @Test("no Swift file is longer than 700 lines", arguments: ["Package.swift", "Sources", "Tests", "Benchmarks"])
    func filesAreShort(folder: String) throws {
        for file in try Repository.files(in: folder, endings: [".swift"]) {
            #expect(file.lines.count <= Self.longestFile, "\(file.path): \(file.lines.count) lines")
        }
    }

    @Test("a Swift file starts with code or with what it is for, without a license or the name of its author")
    func noHeaders() throws {
        for file in try Repository.files(in: "Sources", endings: [".swift"]) {
            let first = file.lines.first { !$0.allSatisfy(\.isWhitespace) } ?? ""
            #expect(!first.hasPrefix("//") || first.hasPrefix("///"), "\(file.path):1: starts with \"\(first)\"")
        }
    }

    @Test("a path has no spaces")
    func noSpaces() throws {
        for file in try Repository.files(in: "", endings: [".swift", ".md", ".yaml", ".py", ".sh"]) {
            #expect(!file.path.contains(" "), "\(file.path)")
        }
    }

    @Test(
        "nothing names a path of somebody's machine",
        arguments: ["scripts", ".ci", "docs", "mesh-config", "Sources", "Tests", "Benchmarks", ""])
    func noPrivatePaths(folder: String) throws {
        let files: [Repository.File] =
            folder.isEmpty
            ? try ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "Package.swift"].flatMap {
                try Repository.files(in: $0, endings: [])
            }
            : try Repository.files(in: folder, endings: [""])
        // Folders of one machine or one person. What every Debian has (/tmp, /etc, /proc, /usr, /var) may be named.
        let personal = /(?:^|[^\w.\/\-])(\/(?:home|root|Users|work|workspace|mnt)\/[\w.]+)/
        for file in files where ["/home/", "/root/", "/Users/", "/work", "/mnt/"].contains(where: file.text.contains) {
            for (index, line) in file.lines.enumerated() {
                if let match = line.firstMatch(of: personal) {
                    Issue.record("\(file.path):\(index + 1): names \(match.1)")
                }
            }
        }
    }

    @Test("every link of a page leads to a file, and to a heading that is there")
    func linksResolve() throws {
        for page in try Repository.files(in: "", endings: [".md"]) {
            for link in links(in: page) where !link.target.contains("://") && !link.target.hasPrefix("mailto:") {
                let parts = link.target.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
                let place = "\(page.path):\(link.line): [...](\(link.target))"
                let path = parts[0].isEmpty ? page.path : resolve(parts[0], from: page.path)
                guard Repository.exists(path) else {
                    Issue.record("\(place): there is no \(path)")
                    continue
                }
                guard parts.count == 2, path.hasSuffix(".md") else { continue }
                let headings = anchors(of: try #require(try Repository.files(in: path, endings: []).first))
                #expect(headings.contains(parts[1]), "\(place): \(path) has no such heading; it has \(headings.sorted())")
            }
        }
    }

    @Test("every page of docs can be reached from the README by links")
    func everyPageCanBeReached() throws {
        let pages = Dictionary(uniqueKeysWithValues: try Repository.files(in: "", endings: [".md"]).map { ($0.path, $0) })
        var reached: Set<String> = ["README.md"]
        var waiting = [try #require(pages["README.md"])]
        while let page = waiting.popLast() {
            for link in links(in: page) {
                let target = link.target.split(separator: "#", omittingEmptySubsequences: false)[0]
                guard let next = pages[resolve(String(target), from: page.path)], reached.insert(next.path).inserted else { continue }
                waiting.append(next)
            }
        }
        for path in pages.keys.sorted() where path.hasPrefix("docs/") {
            #expect(reached.contains(path), "no link leads to \(path)")
        }
    }

    @Test("what the scripts run is executable, and bash stops at the first error")
    func scriptsAreSafe() throws {
        for file in try Repository.files(in: "scripts", endings: [""]) + Repository.files(in: ".ci", endings: [""])
        where file.text.hasPrefix("#!/usr/bin/env bash") {
            #expect(file.text.contains("\nset -euo pipefail\n"), "\(file.path) goes on after an error")
            #expect(FileManager.default.isExecutableFile(atPath: Repository.root.appending(path: file.path).path), "\(file.path)")
        }
    }

    // MARK: Markdown

    private func links(in page: Repository.File) -> [(target: String, line: Int)] {
        prose(page).flatMap { line, number in
            line.matches(of: /\]\(([^)\s]+)(?:\s+"[^"]*")?\)/).map { (String($0.1), number) }
        }
    }

    /// The lines outside of code blocks, without what stands in backquotes.
    private func prose(_ page: Repository.File) -> [(line: String, number: Int)] {
        var isCode = false
        return page.lines.enumerated().compactMap { index, line in
            if line.drop(while: { $0 == " " }).hasPrefix("```") { isCode.toggle() }
            return isCode ? nil : (String(line.replacing(/`[^`]*`/, with: "")), index + 1)
        }
    }

    /// `## What counts, and why` is `#what-counts-and-why`.
    private func anchors(of page: Repository.File) -> Set<String> {
        var isCode = false
        return Set(
            page.lines.compactMap { line in
                if line.hasPrefix("```") { isCode.toggle() }
                guard !isCode, let match = line.wholeMatch(of: /#{1,6} +(.+)/) else { return nil }
                return match.1.lowercased().filter { $0.isLetter || $0.isNumber || "-_ ".contains($0) }.replacing(" ", with: "-")
            })
    }

    private func resolve(_ link: String, from page: String) -> String {
        var parts = link.hasPrefix("/") ? [] : page.split(separator: "/").dropLast().map(String.init)
        for part in link.split(separator: "/") where part != "." {
            if part == ".." { _ = parts.popLast() } else { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }
}
