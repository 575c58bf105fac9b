// A scene with its objects, both part of the page.
const picture = document.getElementById("picture");
const start = () => makeViewer(document.querySelector(".viewer")).show({
  ...JSON.parse(document.getElementById("scene").textContent),
  picture,
});
if (picture) picture.decode().then(start);
else start();
